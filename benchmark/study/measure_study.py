"""What ``profile`` measures: which networks at which sizes, on which devices, in which number formats."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from benchmark.config.registry import ModelEntry
from benchmark.devices.hardware import Hardware
from benchmark.records.efficiency_record import DType, Form
from benchmark.runs.jobs import EfficiencyJob
from benchmark.utils.errors import UserError, did_you_mean

Name = TypeVar("Name", bound=str)

THROUGHPUT_S = 5.0  # for all batch sizes together


def jobs(
    folder: Path,
    entries: Sequence[ModelEntry],
    sizes: str,
    dtypes: str,
    devices: Iterable[Hardware],
    channels: int,
    forms: str = "eager",
    budget_s: float | None = None,
) -> list[EfficiencyJob]:
    """Return one measurement per network, size, number format, form and device, each setting complete before the next.

    Where CUDA graphs are asked for on several devices, those without are left out.

    Args:
        folder: the study that keeps the figures.
        entries: the networks.
        sizes: what ``--sizes`` was given.
        dtypes: what ``--dtypes`` was given.
        devices: where to measure.
        channels: of the input.
        forms: what ``--form`` was given.
        budget_s: seconds for warm-up, timings and throughput of each; ``None`` for the full protocol.

    Raises:
        UserError: a size that is none or that a network does not take, an unknown number format or form, or CUDA graphs
            without a device that has them.
    """
    # Named twice, a setting is measured once.
    formats: dict[DType, None] = dict.fromkeys(_one_of(text, "--dtypes", get_args(DType)) for text in dtypes.split(","))
    ways: dict[Form, None] = dict.fromkeys(_one_of(text, "--form", get_args(Form)) for text in forms.split(","))
    sides = dict.fromkeys(side(text, entries) for text in sizes.split(","))
    places = dict.fromkeys(devices)
    settings = [
        (place, side, dtype, form)
        for place, side, dtype, form in itertools.product(places, sides, formats, ways)
        if form != "graph" or place.kind == "cuda"
    ]
    if not settings:
        raise UserError(
            "--form graph: replays CUDA graphs, which a CPU does not have; use --devices cuda, or --form eager,compile"
        )
    return [
        EfficiencyJob(
            folder, entry, side, channels, place.device, place.threads, THROUGHPUT_S, dtype, form, budget_s, anew=True
        ).planned()
        for place, side, dtype, form in settings
        for entry in entries
    ]


def _one_of(text: str, flag: str, known: Sequence[Name]) -> Name:
    if (name := text.strip()) not in known:
        raise UserError(f"{flag} {name!r}: expected {', '.join(known)}{did_you_mean(name, known)}")
    return known[known.index(name)]


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
