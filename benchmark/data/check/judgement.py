"""Judges what images and masks hold: what makes a study's numbers wrong, and what is doubtful.

``data verify`` shows the findings as rows; a pack refuses the wrong ones and notes the others.
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

MOST_NAMED = 3
# A picture with no more gray values than a one-hot mask has, with one to spare, is taken for a mask.
MASK_VALUES = 4
# So is one with nearly all its pixels near the ends of a wide range, such as a mask that JPEG has blurred.
NEAR_END, WIDE, NEARLY_ALL = 16, 128, 0.95


@dataclass(frozen=True)
class Facts:
    """Numbers that describe the content of an image and its label.

    Attributes:
        transparent: whether pixels of the image are transparent, at least in part; their stored colours count.
        image_is_mask: whether the image holds as few values as a mask.
        label_is_image: whether the label holds as many values as an image.
        counted: number of pixels that are not ignored; 0 where the label cannot be read.
        foreground: how many of them are foreground.
        ignored: number of pixels that are.
        foreground_gray: mean gray of the foreground, NaN without any.
        background_gray: the same of the background.
        stored_as: the value of the label's foreground, as :class:`benchmark.data.formats.masks.Label` has it.
    """

    transparent: bool = False
    image_is_mask: bool = False
    label_is_image: bool = False
    counted: int = 0
    foreground: int = 0
    ignored: int = 0
    foreground_gray: float = math.nan
    background_gray: float = math.nan
    stored_as: int = 0

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
    """Return what an image tells without its label; ``gray`` is ``(H, W)``."""
    return Facts(transparent=picture.alpha is not None, image_is_mask=holds_few_values(gray))


def with_label(facts: Facts, label: Label, counted: BoolMask, gray: UInt8Array | None) -> Facts:
    """Add what a label, the pixels that count and the image's grays, both ``(H, W)``, tell together."""
    total, foreground, mask = int(np.count_nonzero(counted)), label.mask & counted, label.mask
    facts = replace(
        facts,
        counted=total,
        foreground=int(np.count_nonzero(foreground)),
        ignored=counted.size - total,
        stored_as=label.stored_as,
    )
    if gray is None:
        return facts
    return replace(facts, foreground_gray=_mean(gray, foreground), background_gray=_mean(gray, counted & ~mask))


def holds_few_values(gray: UInt8Array) -> bool:
    """Tell whether a picture ``(H, W)`` holds as few values as a mask."""
    histogram = np.bincount(gray.reshape(-1), minlength=256)
    present = np.flatnonzero(histogram)
    low, high = int(present[0]), int(present[-1])
    at_ends = int(histogram[low : low + NEAR_END].sum() + histogram[max(high - NEAR_END + 1, 0) :].sum())
    return len(present) <= MASK_VALUES or (high - low >= WIDE and at_ends >= NEARLY_ALL * gray.size)


def judge(facts: Sequence[Facts], images: Sequence[str], labels: Sequence[str]) -> dict[str, Finding]:
    """Return what is wrong or doubtful of a dataset's images and masks, by what was looked at.

    Args:
        facts: of every pair.
        images: names of the images, as a person is to read them.
        labels: the same of the labels.
    """
    found: dict[str, Finding] = {}
    known = [index for index, one in enumerate(facts) if one.counted]
    shares = np.array([facts[index].share for index in known])
    contrasts = np.array([facts[index].contrast for index in known])
    usual = float(np.nanmedian(contrasts)) if np.isfinite(contrasts).any() else math.nan
    for name, extreme in (("empty", 0), ("full", 1)):
        if alike := [labels[index] for index in known if facts[index].share == extreme]:
            every = len(alike) == len(known)
            text = f"every mask is {name}: nothing can be learned or measured" if every else named(alike)
            found[f"{name} masks"] = Finding(text, wrong=every)
    by_value = {value: [labels[i] for i in known if facts[i].stored_as == value] for value in (1, 255)}
    if all(by_value.values()):
        ones, whites = by_value.values()
        found["mask values"] = Finding(
            f"foreground is 1 in {named(ones)} and 255 in {named(whites)}: where one of them means unlabelled, as 255 "
            "does in some tools' masks, say so below [values] in the dataset's TOML file, such as background = 0, "
            "foreground = 1, ignore = 255"
        )
    odd = [
        labels[i]
        for i in known
        if facts[i].share > 0.5 and (facts[i].contrast < 0 < usual or facts[i].contrast > 0 > usual)
    ]
    if known and np.median(shares) > 0.5 and usual < 0:
        found["mean gray"] = Finding(
            "most masks hold more than half of the image, and its darker part: are they inverted?"
        )
    elif odd:
        found["mean gray"] = Finding(
            f"{named(odd)}: more than half is foreground and its contrast is not the others': inverted?"
        )
    if len(facts) < 2 * min(sum(one.image_is_mask for one in facts), sum(one.label_is_image for one in facts)):
        found["swapped folders"] = Finding(
            "swapped folders: the images lie in the label folder and the labels in the image folder", wrong=True
        )
    if any(one.ignored for one in facts) and all(one.ignored and not one.counted for one in facts):
        found["ignored pixels"] = Finding("every pixel is ignored: nothing can be learned or measured", wrong=True)
    if clear := [image for image, one in zip(images, facts, strict=True) if one.transparent]:
        found["image formats"] = Finding(
            f"{named(clear)}: transparent pixels, of which the stored colours count: mark those that show no chip in "
            "ignore/"
        )
    return found


def judge_split(dataset: str, tiles: Sequence[Tile], division: Division, protocol: Protocol) -> dict[str, Finding]:
    """Return what a division lets a network see of its test and validation beforehand, by the name of its row.

    Args:
        dataset: named nowhere but in errors.
        tiles: the images.
        division: made by :func:`benchmark.data.splits.divide_under`.
        protocol: the same.
    """
    settings, seed = protocol.split, split_seed(dataset, protocol)
    # Several findings try the same other divisions.
    cut = functools.cache(lambda changed: attempt(dataset, tiles, changed, seed))
    leaks_of = functools.cache(lambda other: leakage(tiles, other))
    leaks, given = leaks_of(division), any(tile.given for tile in tiles)
    sets, across = look_alikes(tiles, division)
    shown = ", ".join(tiles[index].name for index in (across or sets or [[]])[0][:MOST_NAMED])

    def remedy(fits: Callable[[Leakage], bool]) -> str:
        if given:
            return "move them to one part"
        helping = ways(
            cut,
            settings,
            lambda other: fits(leaks_of(other)),
            partial=protocol.input.partial_tiles,
            costly=False,
        )
        return f"use {helping}" if helping else "bring other images: no split of these keeps them apart"

    found: dict[str, Finding] = {}
    if across:
        apart = remedy(lambda other: not other.val_clusters + other.test_clusters)
        found["near duplicates"] = Finding(f"{shown}: one part knows the other, {apart}", wrong=True)
    elif sets:
        found["near duplicates"] = Finding(f"{shown}: counted more than once")
    if settings.unit != "block" and leaks.val_groups + leaks.test_groups:  # of which blocks are made
        # Of a single frame no group is left to test on, but a gap between its parts can be kept.
        apart = remedy(
            lambda other: not other.val_groups + other.test_groups or not other.val_neighbours + other.test_neighbours
        )
        text = f"tiles of one frame on both sides raise every score: {apart}"
        found["leakage: frame also trained on"] = Finding(text, wrong=settings.unit == "group")
    if leaks.val_clusters + leaks.test_clusters:
        apart = remedy(lambda other: not other.val_clusters + other.test_clusters)
        found["leakage: looks like a training tile"] = Finding(f"the network has seen them: {apart}", wrong=True)
    if leaks.val_neighbours + leaks.test_neighbours:
        apart = remedy(lambda other: not other.val_neighbours + other.test_neighbours)
        text = f"structures run from one into the other: {apart}"
        found["leakage: touches a training tile"] = Finding(text, wrong=settings.unit != "image")
    return found


def refuse_or_note(dataset: str, pairs: Sequence[Pair], facts: Sequence[Facts]) -> list[str]:
    """Return what is doubtful of a dataset's files, as notes of its pack.

    Raises:
        UserError: what makes every number wrong.
    """
    if not facts:
        return []
    images, labels = (
        [f"{path.parent.name}/{path.name}" for path in (getattr(pair, kind) for pair in pairs)]
        for kind in ("image", "label")
    )
    findings = judge(facts, images, labels)
    for finding in findings.values():
        if finding.wrong:
            raise UserError(
                f"{dataset}: {finding.text}; expected masks of foreground and background: look at them with "
                f"`data show {dataset}`"
            )
    return [f"{name}: {finding.text}" for name, finding in findings.items()]


def squeezed(levels: Levels | None) -> str:
    """Say where automatic levels leave little contrast, and which to declare; empty where they do not."""
    remedy = "add levels = [{low}, {high}] to the dataset's TOML file, and look at it with `data show`"
    return levels.squeeze.told(remedy) if levels and levels.squeeze else ""


def named(names: Sequence[str]) -> str:
    """Return the first few of many names, and how many more there are."""
    more = f" (and {len(names) - MOST_NAMED} more)" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more


def not_searched(folders: Sequence[str]) -> str:
    """Say which folders lie among a dataset's files; blank for none."""
    return f"{len(folders)} folder(s) are not searched: {named(folders)}" if folders else ""


def _mean(gray: UInt8Array, where: BoolMask) -> float:
    return float(gray[where].mean()) if where.any() else math.nan
