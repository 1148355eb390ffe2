"""Judges images, masks and splits: faults that make numbers wrong, and doubts.

``data verify`` shows the findings as rows; a pack refuses the faults and notes the doubts.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.data.formats.images import Levels, Picture, UInt8Array
from benchmark.data.formats.label_format import Label
from benchmark.data.pairs import Pair
from benchmark.data.split_advice import ways
from benchmark.data.splits import Division, Leakage, Tile, attempt, leakage, look_alikes, split_seed
from benchmark.data.tiling import BoolMask
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

MOST_NAMED = 3
# A picture is taken for a mask if it has at most one gray value more than the three of a one-hot mask,
MASK_VALUES = 4
# or if nearly all its pixels lie near the ends of a wide range, as in a mask that JPEG has blurred.
NEAR_END, WIDE, NEARLY_ALL = 16, 128, 0.95


@dataclass(frozen=True)
class Facts:
    """Numbers that describe the content of an image and its label."""

    transparent: bool = False  # whether pixels of the image are wholly or partly transparent; their colours count
    image_is_mask: bool = False  # whether the image holds as few values as a mask
    label_is_image: bool = False  # whether the label holds as many values as an image
    counted: int = 0  # number of pixels that are not ignored; 0 where the label cannot be read
    foreground: int = 0  # number of counted pixels that are foreground
    ignored: int = 0  # number of ignored pixels
    foreground_gray: float = math.nan  # mean gray of the foreground, NaN without any
    background_gray: float = math.nan  # mean gray of the background, NaN without any
    stored_as: int = 0  # the value of the label's foreground, as in ``Label``

    @property
    def share(self) -> float:
        """Foreground over counted pixels, NaN where there are none."""
        return self.foreground / self.counted if self.counted else math.nan

    @property
    def contrast(self) -> float:
        """Mean gray of the foreground minus that of the background, NaN where one of them is missing."""
        return self.foreground_gray - self.background_gray


class Finding(NamedTuple):
    """A fault that makes a study's numbers wrong, or a doubt."""

    text: str
    wrong: bool = False


def image_facts(picture: Picture, gray: UInt8Array) -> Facts:
    """Return the facts of an image without its label; ``gray`` is ``(H, W)``."""
    return Facts(transparent=picture.alpha is not None, image_is_mask=holds_few_values(gray))


def with_label(facts: Facts, label: Label, counted: BoolMask, gray: UInt8Array | None) -> Facts:
    """Add the facts of a label; ``counted`` is false on ignored pixels, ``gray`` the image, both ``(H, W)``."""
    total, foreground = int(np.count_nonzero(counted)), label.mask & counted
    number, ignored = int(np.count_nonzero(foreground)), counted.size - total
    facts = replace(facts, counted=total, foreground=number, ignored=ignored, stored_as=label.stored_as)
    if gray is None:
        return facts
    sides = (counted & ~label.mask, foreground)
    dark, bright = (float(gray[side].mean()) if side.any() else math.nan for side in sides)
    return replace(facts, foreground_gray=bright, background_gray=dark)


def holds_few_values(gray: UInt8Array) -> bool:
    """Tell whether a picture ``(H, W)`` holds as few values as a mask."""
    histogram = np.bincount(gray.reshape(-1), minlength=256)
    present = np.flatnonzero(histogram)
    low, high = int(present[0]), int(present[-1])
    at_ends = int(histogram[low : low + NEAR_END].sum() + histogram[max(high - NEAR_END + 1, 0) :].sum())
    return len(present) <= MASK_VALUES or (high - low >= WIDE and at_ends >= NEARLY_ALL * gray.size)


def judge(facts: Sequence[Facts], images: Sequence[str], labels: Sequence[str]) -> dict[str, Finding]:
    """Return the faults and doubts of a dataset's images and masks, by the name of the row.

    Args:
        facts: of every pair.
        images: names of the images for messages.
        labels: names of the labels for messages.
    """
    findings: dict[str, Finding] = {}
    known = [(pair, label) for pair, label in zip(facts, labels, strict=True) if pair.counted]
    contrasts = np.array([pair.contrast for pair, _ in known])
    usual = float(np.nanmedian(contrasts)) if np.isfinite(contrasts).any() else math.nan
    for name, extreme in (("empty", 0), ("full", 1)):
        if alike := [label for pair, label in known if pair.share == extreme]:
            every = len(alike) == len(known)
            text = f"every mask is {name}: nothing can be learned or measured" if every else named(alike)
            findings[f"{name} masks"] = Finding(text, wrong=every)
    ones, whites = ([label for pair, label in known if pair.stored_as == value] for value in (1, 255))
    if ones and whites:
        findings["mask values"] = Finding(
            f"foreground is 1 in {named(ones)} and 255 in {named(whites)}: where one of them means unlabelled, as 255 "
            "does in some tools' masks, say so below [values] in the dataset's TOML file, such as background = 0, "
            "foreground = 1, ignore = 255"
        )
    full = [(pair, label) for pair, label in known if pair.share > 0.5]
    odd = [label for pair, label in full if pair.contrast < 0 < usual or usual < 0 < pair.contrast]
    doubt = f"{named(odd)}: more than half is foreground and its contrast is not the others': inverted?" if odd else ""
    if known and np.median([pair.share for pair, _ in known]) > 0.5 and usual < 0:
        doubt = "most masks hold more than half of the image, and its darker part: are they inverted?"
    if doubt:
        findings["mean gray"] = Finding(doubt)
    if len(facts) < 2 * min(sum(pair.image_is_mask for pair in facts), sum(pair.label_is_image for pair in facts)):
        text = "swapped folders: the images lie in the label folder and the labels in the image folder"
        findings["swapped folders"] = Finding(text, wrong=True)
    if facts and all(pair.ignored and not pair.counted for pair in facts):
        findings["ignored pixels"] = Finding("every pixel is ignored: nothing can be learned or measured", wrong=True)
    if clear := [image for image, pair in zip(images, facts, strict=True) if pair.transparent]:
        findings["image formats"] = Finding(
            f"{named(clear)}: transparent pixels, of which the stored colours count: mark those that show no chip in "
            "ignore/"
        )
    return findings


def judge_split(
    dataset: str, tiles: Sequence[Tile], divided: Sequence[Division], protocol: Protocol
) -> dict[str, Finding]:
    """Return the findings on a split: look-alikes, and leakage from training into the other parts.

    Args:
        dataset: named in errors only.
        tiles: the images.
        divided: made by :func:`benchmark.data.splits.divide_under`.
        protocol: the protocol of the split.
    """
    settings, seed = protocol.split, split_seed(dataset, protocol)
    # Several findings try the same other divisions.
    cut = functools.cache(lambda changed: attempt(dataset, tiles, changed, seed))
    leaks_of = functools.cache(lambda other: leakage(tiles, *other))
    leaks, given = leaks_of(tuple(divided)), any(tile.given for tile in tiles)
    sets, across = look_alikes(tiles, *divided)
    names = ", ".join(tiles[index].name for index in (across or sets or [[]])[0][:MOST_NAMED])

    def remedy(fits: Callable[[Leakage], bool]) -> str:
        if given:
            return "move them to one part"
        partial = protocol.input.partial_tiles
        helping = ways(cut, settings, lambda other: fits(leaks_of(other)), partial=partial, costly=False)
        stripes = ", or cut large frames into stripes with --protocol open" * partial
        return f"use {helping}" if helping else f"no split of these keeps them apart: bring other images{stripes}"

    findings: dict[str, Finding] = {}
    if across:
        apart = remedy(lambda other: not any(other.clusters))
        findings["near duplicates"] = Finding(f"{names}: one part knows the other, {apart}", wrong=True)
    elif sets:
        findings["near duplicates"] = Finding(f"{names}: counted more than once")
    if settings.unit != "block" and any(leaks.groups):  # blocks are parts of frames
        # Of a single frame no group is left to test on, but a gap between its parts can be kept.
        apart = remedy(lambda other: not any(other.groups) or not any(other.neighbours))
        text = f"tiles of one frame on both sides raise every score: {apart}"
        findings["leakage: frame also trained on"] = Finding(text, wrong=settings.unit == "group")
    if any(leaks.clusters):
        apart = remedy(lambda other: not any(other.clusters))
        findings["leakage: looks like a training tile"] = Finding(f"the network has seen them: {apart}", wrong=True)
    if any(leaks.neighbours):
        text = f"structures run from one into the other: {remedy(lambda other: not any(other.neighbours))}"
        findings["leakage: touches a training tile"] = Finding(text, wrong=settings.unit != "image")
    return findings


def refuse_or_note(dataset: str, pairs: Sequence[Pair], facts: Sequence[Facts]) -> list[str]:
    """Return the doubts about a dataset's files, as notes of its pack.

    Raises:
        UserError: a fault makes every number wrong.
    """
    if not facts:
        return []
    images = [f"{pair.image.parent.name}/{pair.image.name}" for pair in pairs]
    findings = judge(facts, images, [f"{pair.label.parent.name}/{pair.label.name}" for pair in pairs])
    for finding in findings.values():
        if finding.wrong:
            raise UserError(
                f"{dataset}: {finding.text}; expected masks of foreground and background: look at them with "
                f"`data show {dataset}`"
            )
    return [f"{name}: {finding.text}" for name, finding in findings.items()]


def squeezed(levels: Levels | None) -> str:
    """Say that automatic levels leave little contrast, and which levels to declare; empty where they leave enough."""
    remedy = "add levels = [{low}, {high}] to the dataset's TOML file, and look at it with `data show`"
    return levels.squeeze.message(remedy) if levels and levels.squeeze else ""


def named(names: Sequence[str]) -> str:
    """Return the first few of many names, and the number of the others."""
    more = f" (and {len(names) - MOST_NAMED} more)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def not_searched(folders: Sequence[str]) -> str:
    """Say which folders lie among a dataset's files; empty for none."""
    return f"{counted(len(folders), 'folder')} not searched: {named(folders)}" if folders else ""
