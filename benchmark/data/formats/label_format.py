"""Defines the interface of label formats, and the label that they return."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, TypeVar

from benchmark.config.targets import Target
from benchmark.data.formats.rasterize import Mask
from benchmark.data.formats.values import Values
from benchmark.data.specs import Kind
from benchmark.utils.errors import UserError
from benchmark.utils.files import Stamp, stamp

Content = TypeVar("Content")


class Legend(NamedTuple):
    """Meanings that a dataset's TOML file gives to its labels."""

    categories: Sequence[tuple[str, Kind]] = ()  # names of categories with their kinds, where names do not tell
    values: Values | None = None  # unusual meanings of a mask's values


NO_LEGEND = Legend()


@dataclass(frozen=True, eq=False)
class Label:
    """A label that was read."""

    mask: Mask  # ``(H, W)`` bool, the foreground
    note: str | None = None  # a remark for the user about how it was read
    ignored: Mask | None = None  # ``(H, W)`` bool, pixels to ignore; ``None`` if the format cannot mark any
    stored_as: int = 0  # foreground's value, 1 or 255, in a mask of 8-bit values; 0 for other masks
    tells_layers: bool = False  # whether the file tells this layer from others


@dataclass(frozen=True, eq=False)
class Layers:
    """Tracks and vias as separate masks, both ``(H, W)`` bool."""

    track: Mask
    via: Mask

    def of(self, target: Target) -> Mask:
        """Return the foreground of a target; ``metal`` is the union of both.

        Raises:
            UserError: another target.
        """
        masks = {"track": self.track, "via": self.via, "metal": self.track | self.via}
        if target not in masks:
            raise UserError(f"labels of this format tell only {', '.join(masks)}, found the target {target!r}")
        return masks[target]


class LabelFormat(ABC):
    """A kind of label file.

    To add one, write a subclass in a file of its own and add an instance to ``FORMATS`` in ``all_formats.py``; folders,
    checks, packs, downloads and scores then know it.

    Attributes:
        suffixes: endings of its files, lower case, with the dot.
        holds_many: whether a file holds labels of many images. A label's path is then ``file/name``, as in a folder,
            and ``name`` has its image's stem.
        is_drawn: whether a file holds shapes, not values of pixels.
        has_categories: whether shapes belong to named categories, which ``[categories]`` of a TOML file explains.
    """

    suffixes: ClassVar[frozenset[str]]
    holds_many: ClassVar[bool] = False
    is_drawn: ClassVar[bool] = False
    has_categories: ClassVar[bool] = False

    @abstractmethod
    def size(self, label: Path) -> tuple[int, int]:
        """Return a label's height and width in pixels.

        Raises:
            UserError: the file cannot be read.
        """

    @abstractmethod
    def read(self, label: Path, target: Target, legend: Legend) -> Label:
        """Read a label of :meth:`size`.

        Args:
            label: its path.
            target: the layer that counts as foreground in a label of several layers.
            legend: meanings that the dataset's TOML file gives.

        Raises:
            UserError: the file cannot be read, or its content has no known meaning.
        """

    def entries(self, file: Path) -> list[Path] | None:
        """Return the labels in a file, or ``None`` for a file of another purpose.

        Raises:
            UserError: the file cannot be read.
        """
        return [file]

    def file_of(self, label: Path) -> Path:
        """Return the file that holds a label."""
        return label.parent if self.holds_many else label

    def form(self, label: Path) -> str:
        """Return the format's name for `data verify`."""
        return self.file_of(label).suffix[1:].upper()


def remembering(read: Callable[[Path], Content]) -> Callable[[Path], Content]:
    """Return a reader that remembers four files, since callers read a label's size and then its mask.

    A changed file is read again.
    """

    @functools.lru_cache(maxsize=4)  # train, val, test and one more
    def read_once(file: Path, state: Stamp) -> Content:
        return read(file)

    def remembered(file: Path) -> Content:
        try:
            state = stamp(file)
        except OSError:
            return read(file)  # raises an error for the user
        return read_once(file, state)

    return remembered
