"""What ``profile`` measures: which networks at which sizes, on which devices, in which number formats."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import get_args

from benchmark.costs import Hardware
from benchmark.efficiency import DType
from benchmark.errors import UserError, did_you_mean
from benchmark.jobs import EfficiencyJob
from benchmark.registry import ModelEntry

THROUGHPUT_S = 5.0  # for all batch sizes together


def jobs(
    folder: Path,
    entries: Sequence[ModelEntry],
    sizes: str,
    dtypes: str,
    devices: Iterable[Hardware],
    channels: int,
    budget_s: float | None = None,
) -> list[EfficiencyJob]:
    """Return one measurement per network, size, number format and device, each setting complete before the next.

    Args:
        folder: the study that keeps the figures.
        entries: the networks.
        sizes: what ``--sizes`` was given.
        dtypes: what ``--dtypes`` was given.
        devices: where to measure.
        channels: of the input.
        budget_s: seconds for warm-up, timings and throughput of each; ``None`` for the full protocol.

    Raises:
        UserError: a size that is none or that a network does not take, or an unknown number format.
    """
    # Named twice, a setting is measured once.
    formats = dict.fromkeys(_dtype(text) for text in dtypes.split(","))
    sides = dict.fromkeys(side(text, entries) for text in sizes.split(","))
    return [
        EfficiencyJob(
            folder, entry, side, channels, place.device, place.threads, THROUGHPUT_S, dtype, budget_s
        ).planned()
        for place, side, dtype in itertools.product(dict.fromkeys(devices), sides, formats)
        for entry in entries
    ]


def _dtype(text: str) -> DType:
    known: dict[str, DType] = {name: name for name in get_args(DType)}
    if (name := text.strip()) not in known:
        raise UserError(f"--dtypes {name!r}: expected {', '.join(known)}{did_you_mean(name, known)}")
    return known[name]


def side(text: str, entries: Iterable[ModelEntry]) -> int:
    """Read one number of ``--sizes`` that all networks take.

    Raises:
        UserError: it is none, or a network does not take it.
    """
    if not text.strip().isdigit() or int(text) == 0:
        raise UserError(f"--sizes {text.strip()!r}: expected whole numbers of pixels, such as 512,1024")
    for entry in entries:
        if int(text) % entry.multiple:
            raise UserError(
                f"--sizes {text.strip()}: {entry.name} takes multiples of {entry.multiple}; "
                "leave it out or change the size"
            )
    return int(text)
