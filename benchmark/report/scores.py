"""Reads the integer counts of a test's images and reduces them to metrics."""

from __future__ import annotations

import csv
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
    def of(
        cls,
        images: Sequence[str],
        groups: Sequence[str],
        columns: Mapping[str, NDArray[np.int64]],
        behaviour: int = BEHAVIOUR,
    ) -> Scores:
        """Reduce the counts of images."""
        return cls(
            images=tuple(images),
            groups=tuple(groups),
            columns=columns,
            sums={name: int(column.sum()) for name, column in columns.items()},
            reduced={reduction: metrics.reduce(columns, reduction) for reduction in get_args(metrics.Reduction)},
            behaviour=behaviour,
        )

    @cached_property
    def judged(self) -> int:
        """Number of images with a counted pixel, and so with a value: the n of every mean over images."""
        return int(metrics.judged(self.columns).sum())

    def among(self, names: Set[str]) -> Scores | None:
        """Return the scores of the images of these names, in their order here; ``None`` without any."""
        kept = [index for index, name in enumerate(self.images) if name in names]
        if not kept:
            return None
        images, groups = ([side[index] for index in kept] for side in (self.images, self.groups))
        return Scores.of(images, groups, {name: column[kept] for name, column in self.columns.items()}, self.behaviour)


def read_scores(file: Path, behaviour: int = BEHAVIOUR) -> Scores:
    """Read and reduce the integers of an ``images.<test>.csv``; its ratio columns are for readers and are not used.

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
    return Scores.of(table["image"], table["group"], columns, behaviour)
