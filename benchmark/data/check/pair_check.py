"""Checks one image and its label, and describes both in a few numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmark.config.targets import Target
from benchmark.data import duplicates
from benchmark.data.check.judgement import MASK_VALUES, Facts, holds_few_values, image_facts, with_label
from benchmark.data.formats.all_formats import format_of, read_layers
from benchmark.data.formats.images import (
    Levels,
    UInt8Array,
    decode,
    read_depth,
    read_size,
    sized,
    to_8_bit,
    to_channels,
)
from benchmark.data.formats.masks import gray_of, read_ignore
from benchmark.data.formats.pillow import read_form
from benchmark.data.formats.values import SHOWN, colours_of, listed
from benchmark.data.pairs import Pair
from benchmark.data.tiling import labelled_share, windows_of
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class Header:
    """The facts that an image's first bytes give."""

    shape: tuple[int, int] | None = None  # height and width; ``None`` where it cannot be read
    depth: int = 8  # bits per channel
    form: str = ""  # format and mode, such as ``PNG L``
    error: str = ""  # why it cannot be read


@dataclass(frozen=True)
class PairCheck:
    """An image and its label in a few numbers."""

    header: Header  # of the image
    #: pairs of a kind and the reader's message; kinds are ``image``, ``label``, ``size``, ``values`` and ``ignore``
    faults: tuple[tuple[str, str], ...] = ()
    digest: bytes = b""  # hash of the pixels as a network gets them
    thumbnails: tuple[UInt8Array, ...] = field(default=(), repr=False)  # one ``(32, 32)`` uint8 per tile, in row order
    label_form: str = ""  # format and mode of the label
    values: str = ""  # the label's set of values for messages
    note: str = ""  # the label reader's warning
    facts: Facts = field(default_factory=Facts)  # of image and label
    labelled: tuple[float, ...] = ()  # of each tile, by tiling.labelled_share; empty where every pixel counts

    def with_fault(self, kind: str, error: object) -> PairCheck:
        """Return the same with one more fault."""
        return replace(self, faults=(*self.faults, (kind, str(error))))


def read_header(path: Path) -> Header:
    """Read an image's header; an error is a field of the result."""
    try:
        return Header(read_size(path), read_depth(path), read_form(path))
    except UserError as error:
        return Header(error=str(error))


def check_pair(
    pair: Pair,
    header: Header,
    target: Target,
    channels: int,
    levels: Levels | None,
    tile: int,
    size: int,
    partial: bool,
) -> PairCheck:
    """Read a pair; its faults are a field of the result.

    Args:
        pair: the files.
        header: of the image.
        target: what counts as foreground.
        channels: of the network's input, 1 or 3.
        levels: how 16 bits become 8.
        tile: side of the tiles that the image is cut into; a smaller image has none.
        size: side of the network's input.
        partial: whether pixels that fill no tile get an overlapping one.
    """
    check, gray = PairCheck(header), None
    corners = windows_of(header.shape, tile, partial=partial) if header.shape and min(header.shape) >= tile else []
    windows = [np.s_[top : top + tile, left : left + tile] for _, _, top, left in corners]
    if header.shape is None:
        check = check.with_fault("image", header.error)
    else:
        try:
            picture = decode(pair.image)
            image = to_channels(to_8_bit(pair.image, picture, levels), channels)
            gray = to_channels(image, 1)[..., 0]
            digest = hashlib.sha256(repr(image.shape).encode())
            digest.update(image.data)
            thumbnails = tuple(duplicates.thumbnail(image[window]) for window in windows)
            facts = image_facts(picture, gray)
            check = replace(check, digest=digest.digest(), facts=facts, thumbnails=thumbnails)
        except UserError as error:
            check = check.with_fault("image", error)
    return _with_label(check, pair, target, gray, windows, size)


def _with_label(
    check: PairCheck,
    pair: Pair,
    target: Target,
    gray: UInt8Array | None,
    windows: Sequence[tuple[slice, slice]],
    size: int,
) -> PairCheck:
    """Add the label, read at its own size so that a wrong size hides no other fault."""
    label_format = format_of(pair.label)
    try:
        shape = label_format.size(pair.label)
    except UserError as error:
        return check.with_fault("label", error)
    expected = check.header.shape
    if expected not in (None, shape):
        check = check.with_fault("size", f"{pair.label}: {sized(shape)} pixels, its image {sized(expected)}")
    check = replace(check, label_form=label_format.form(pair.label))
    check = replace(check, values="shapes") if label_format.is_drawn else _with_values(check, pair.label)
    try:
        labels = list(read_layers(pair.labels(target), shape, pair.legend).values())
    except UserError as error:
        return check.with_fault("values" if check.values else "label", error)
    counted = [np.ones(shape, np.bool_) if label.ignored is None else ~label.ignored for label in labels]
    if pair.ignore is not None:
        try:
            everywhere = read_ignore(pair.ignore, shape)
            counted = [pixels & ~everywhere for pixels in counted]
        except UserError as error:
            check = check.with_fault("ignore", error)
    # As in a pack, the first layer stands for the image.
    facts = with_label(check.facts, labels[0], counted[0], gray if gray is not None and gray.shape == shape else None)
    any_layer = np.logical_or.reduce(counted)
    cut = windows if expected == shape and not any_layer.all() else []
    labelled = tuple(labelled_share(any_layer[window], size) for window in cut)
    notes = dict.fromkeys(label.note for label in labels if label.note)
    return replace(check, note="; ".join(notes), facts=facts, labelled=labelled)


def _with_values(check: PairCheck, path: Path) -> PairCheck:
    """Add a mask's values as they are stored, also of a mask that the reader refuses."""
    try:
        pixels = decode(path).pixels
    except UserError:  # the label's reader says the same
        return check
    gray = gray_of(pixels)
    colours = colours_of(pixels.reshape(-1, 3) if gray is None else gray.reshape(-1))
    more = len(colours) > SHOWN
    if gray is None:
        values, is_image = f"{f'more than {SHOWN}' if more else len(colours)} colours", len(colours) > MASK_VALUES
    else:
        values = f"more than {SHOWN} values" if more else listed(colours)
        scaled = (gray.astype(np.float32) * (255 / max(float(gray.max()), 1))).clip(0, 255).astype(np.uint8)
        is_image = not holds_few_values(scaled)
    return replace(check, values=values, facts=replace(check.facts, label_is_image=is_image))
