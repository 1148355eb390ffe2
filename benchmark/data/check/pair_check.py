"""Looking at one image and its label: sizes, values, shares and a fingerprint, or why a file cannot be read."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmark.data import duplicates
from benchmark.data.check.judgement import MASK_VALUES, Facts, holds_few_values, image_facts, with_label
from benchmark.data.formats.all_formats import format_of, read_label
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
from benchmark.data.formats.values import SHOWN, found_in, listed
from benchmark.data.pairs import Pair
from benchmark.data.specs import Target
from benchmark.data.tiling import labelled_share, windows_of
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class Header:
    """What the first bytes of an image tell.

    Attributes:
        shape: height and width; ``None`` where it cannot be read.
        depth: bits per channel.
        form: format and mode, such as ``PNG L``.
        error: why it cannot be read.
    """

    shape: tuple[int, int] | None = None
    depth: int = 8
    form: str = ""
    error: str = ""


@dataclass(frozen=True)
class PairFacts:
    """What a pair of files holds, in a few numbers.

    Attributes:
        header: of the image.
        faults: what is wrong, as (kind, reader's message); kinds are ``image``, ``label``, ``size``, ``values`` and
            ``ignore``.
        digest: hash of the pixels as a network gets them.
        thumbnails: one ``(32, 32)`` uint8 per tile, in row order.
        label_form: format and mode of the label.
        values: the label's set of values, as shown to a person.
        note: the label reader's warning.
        facts: what the two hold, in numbers.
        labelled: of each tile, see :func:`benchmark.data.tiling.labelled_share`; empty where every pixel counts.
    """

    header: Header
    faults: tuple[tuple[str, str], ...] = ()
    digest: bytes = b""
    thumbnails: tuple[UInt8Array, ...] = field(default=(), repr=False)
    label_form: str = ""
    values: str = ""
    note: str = ""
    facts: Facts = field(default_factory=Facts)
    labelled: tuple[float, ...] = ()


def read_header(path: Path) -> Header:
    """Read an image's header; what is wrong with it is part of the answer."""
    try:
        return Header(read_size(path), read_depth(path), read_form(path))
    except UserError as error:
        return Header(error=str(error))


def look(
    pair: Pair,
    header: Header,
    target: Target,
    channels: int,
    levels: Levels | None,
    tile: int,
    size: int,
    *,
    partial: bool,
) -> PairFacts:
    """Read a pair; what is wrong with it is part of the answer.

    Args:
        pair: the files.
        header: of the image.
        target: what counts as foreground.
        channels: that a network gets, 1 or 3.
        levels: how 16 bits become 8.
        tile: side of the tiles that the image is cut into; a smaller image has none.
        size: side of the network's input.
        partial: whether what fills no tile gets one of its own.
    """
    found, gray = PairFacts(header), None
    places: list[tuple[int, int, int, int]] = []
    if header.shape is not None and min(header.shape) >= tile:
        places = windows_of(header.shape, tile, partial=partial)
    windows = [np.s_[top : top + tile, left : left + tile] for _, _, top, left in places]
    if header.shape is None:
        found = _with_fault(found, "image", header.error)
    else:
        try:
            picture = decode(pair.image)
            image = to_channels(to_8_bit(pair.image, picture, levels), channels)
            gray = to_channels(image, 1)[..., 0]
            digest = hashlib.sha256(repr(image.shape).encode())
            digest.update(image.data)
            found = replace(
                found,
                digest=digest.digest(),
                facts=image_facts(picture, gray),
                thumbnails=tuple(duplicates.thumbnail(image[window]) for window in windows),
            )
        except UserError as error:
            found = _with_fault(found, "image", str(error))
    return _with_label(found, pair, target, gray, windows, size)


def _with_fault(found: PairFacts, kind: str, message: str) -> PairFacts:
    return replace(found, faults=(*found.faults, (kind, message)))


def _with_label(
    found: PairFacts,
    pair: Pair,
    target: Target,
    gray: UInt8Array | None,
    windows: Sequence[tuple[slice, slice]],
    size: int,
) -> PairFacts:
    """Add what the label holds; it is read at its own size, so that a wrong size hides nothing else."""
    label_format = format_of(pair.label)
    try:
        shape = label_format.size(pair.label)
    except UserError as error:
        return _with_fault(found, "label", str(error))
    expected = found.header.shape
    if expected not in (None, shape):
        found = _with_fault(
            found,
            "size",
            f"{pair.label}: {sized(shape)} pixels, its image {sized(expected)}",
        )
    found = replace(found, label_form=label_format.form(pair.label))
    found = replace(found, values="shapes") if label_format.is_drawn else _with_values(found, pair.label)
    try:
        label = read_label(pair.label, target, shape, pair.legend)
    except UserError as error:
        return _with_fault(found, "values" if found.values else "label", str(error))
    counted = np.ones(shape, np.bool_) if label.ignored is None else ~label.ignored
    if pair.ignore is not None:
        try:
            counted &= ~read_ignore(pair.ignore, shape)
        except UserError as error:
            found = _with_fault(found, "ignore", str(error))
    facts = with_label(found.facts, label, counted, gray if gray is not None and gray.shape == shape else None)
    fits = expected == shape and facts.ignored
    return replace(
        found,
        note=label.note or "",
        facts=facts,
        labelled=tuple(labelled_share(counted[window], size) for window in windows) if fits else (),
    )


def _with_values(found: PairFacts, path: Path) -> PairFacts:
    """Add a mask's values as they are stored, also of a mask that the reader refuses."""
    try:
        pixels = decode(path).pixels
    except UserError:  # the label's reader says the same
        return found
    gray = gray_of(pixels)
    if gray is None:
        count = len(found_in(pixels.reshape(-1, 3)))
        shown = str(count) if count <= SHOWN else f"more than {SHOWN}"
        return replace(found, values=f"{shown} colours", facts=replace(found.facts, label_is_image=count > MASK_VALUES))
    values = found_in(gray.reshape(-1))
    shown = listed(values) if len(values) <= SHOWN else f"more than {SHOWN} values"
    scaled = (gray.astype(np.float32) * (255 / max(float(gray.max()), 1))).clip(0, 255).astype(np.uint8)
    return replace(found, values=shown, facts=replace(found.facts, label_is_image=not holds_few_values(scaled)))
