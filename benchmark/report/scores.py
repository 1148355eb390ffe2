"""Reads the integer counts of a test's images and reduces them to metrics."""

from __future__ import annotations

import csv
import functools
import io
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from benchmark import BEHAVIOUR, metrics
from benchmark.records.packed_study import read_stored
from benchmark.utils.errors import UserError

#: The most that a file of counts may hold, bytes; a million images have less.
COUNT_BYTES = 256 << 20


@dataclass(frozen=True)
class ImageCounts:
    """The integer counts of a test's images, as a file holds them; fields are those of :class:`Scores`."""

    images: tuple[str, ...]
    groups: tuple[str, ...]
    columns: Mapping[str, NDArray[np.int64]]
    behaviour: int = BEHAVIOUR


@dataclass(frozen=True)
class Scores:
    """The integer counts of a test, and what they become.

    Attributes:
        images: the images' names.
        groups: the source frame of each.
        columns: column -> (images,) integers.
        sums: column -> sum over the images.
        reduced: reduction -> metric -> value.
        behaviour: the behaviour number of the harness that counted.
    """

    images: tuple[str, ...]
    groups: tuple[str, ...]
    columns: Mapping[str, NDArray[np.int64]]
    sums: Mapping[str, int]
    reduced: Mapping[metrics.Reduction, Mapping[str, float]]
    behaviour: int = BEHAVIOUR

    @classmethod
    def of(cls, tests: Sequence[ImageCounts]) -> list[Scores]:
        """Reduce the counts of tests; those of the same columns and number of images together, which is faster."""
        alike: dict[tuple[object, ...], list[int]] = {}
        for index, test in enumerate(tests):
            alike.setdefault((len(test.images), *test.columns), []).append(index)
        reduced: dict[int, dict[metrics.Reduction, Mapping[str, float]]] = {index: {} for index in range(len(tests))}
        for indices in alike.values():
            columns = [tests[index].columns for index in indices]
            for reduction in get_args(metrics.Reduction):
                for index, values in zip(indices, metrics.reduce_sets(columns, reduction), strict=True):
                    reduced[index][reduction] = values
        return [
            cls(
                images=test.images,
                groups=test.groups,
                columns=test.columns,
                sums={name: sum(column.tolist()) for name, column in test.columns.items()},
                reduced=reduced[index],
                behaviour=test.behaviour,
            )
            for index, test in enumerate(tests)
        ]

    @cached_property
    def judged(self) -> int:
        """Number of images with a counted pixel, and so with a value: the n of every mean over images."""
        return int(metrics.judged(self.columns).sum())

    def among(self, names: Set[str]) -> Scores | None:
        """Return the scores of the images of these names, in their order here; ``None`` without any."""
        kept = [index for index, name in enumerate(self.images) if name in names]
        if not kept:
            return None
        images, groups = (tuple(side[index] for index in kept) for side in (self.images, self.groups))
        columns = {name: column[kept] for name, column in self.columns.items()}
        return Scores.of([ImageCounts(images, groups, columns, self.behaviour)])[0]


def read_scores(file: Path, behaviour: int = BEHAVIOUR) -> Scores:
    """Read and reduce the integers of an ``images.<test>.csv`` as :func:`read_counts` does."""
    return Scores.of([read_counts(file, behaviour)])[0]


def read_counts(file: Path, behaviour: int = BEHAVIOUR) -> ImageCounts:
    """Read the integers of an ``images.<test>.csv``; its ratio columns are for readers and are not used.

    Args:
        file: ``images.<test>.csv``.
        behaviour: the behaviour number of the harness that counted.

    Raises:
        UserError: the file is missing, empty, holds something else than integers or does not name its images.
    """
    remedy = "restore the file, or move its folder away and run the same command again"
    try:
        text = read_stored(file, COUNT_BYTES).decode("utf-8")
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        # Not pandas: it takes milliseconds to begin with a file, and a large study has ten thousand small ones.
        table = dict(zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True))
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{file}: cannot be read ({error}); {remedy}") from error
    columns, wrong = {}, []
    # A column that does not apply to a target (nets where vias are looked for) is absent or blank.
    for name in (name for name in metrics.COUNT_COLUMNS + metrics.CONNECTION_COLUMNS if any(table.get(name, ()))):
        try:
            columns[name] = np.array([int(text) for text in table[name]], np.int64)
        except (ValueError, OverflowError):
            wrong.append(name)
    if wrong or not columns:
        content = f"columns {', '.join(wrong)} with other values" if wrong else "no counts"
        raise UserError(f"{file}: expected integer counts per image, found {content}; {remedy}")
    if unnamed := [name for name in ("image", "group") if name not in table]:
        raise UserError(f"{file}: expected a row per image with its name and group, found no {unnamed[0]!r}; {remedy}")
    return ImageCounts(_shared(table["image"]), _shared(table["group"]), columns, behaviour)


@functools.lru_cache(maxsize=256)
def _shared(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return one object for equal names: most runs were tested on the same images."""
    return names
