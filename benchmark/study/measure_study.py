"""Plans the measurements of ``profile``: networks, sizes, devices and number formats."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar, get_args

from benchmark.config.registry import ModelEntry
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.efficiency_record import DType, Form
from benchmark.runs.jobs import EfficiencyJob
from benchmark.training.finetune import Weights
from benchmark.utils.errors import UserError, did_you_mean

Choice = TypeVar("Choice", bound=str)

THROUGHPUT_S = 5.0  # for all batch sizes together


def profile_jobs(
    folder: Path,
    entries: Sequence[ModelEntry],
    sizes: str,
    dtypes: str,
    devices: Iterable[Hardware],
    channels: int,
    forms: str = "eager",
    budget_s: float | None = None,
    weights: Weights | None = None,
    classes: int = 1,
) -> list[EfficiencyJob]:
    """Return one measurement per network, size, number format, form and device; networks vary fastest.

    With several devices, CUDA graphs are measured on GPUs only.

    ``sizes``, ``dtypes`` and ``forms`` are lists as the flags take them; ``budget_s`` limits warm-up, timings and
    throughput of each measurement, ``None`` takes the full protocol. ``weights`` are those of the only network;
    ``classes`` counts the logits.

    Raises:
        UserError: a size is no number or a network does not take it, a number format or form is unknown, or CUDA graphs
            have no GPU.
    """
    # A setting that is named twice is measured once.
    formats: dict[DType, None] = dict.fromkeys(_one_of(text, "--dtype", get_args(DType)) for text in dtypes.split(","))
    ways: dict[Form, None] = dict.fromkeys(_one_of(text, "--execution", get_args(Form)) for text in forms.split(","))
    sides = dict.fromkeys(side(text, entries) for text in sizes.split(","))
    settings = itertools.product(dict.fromkeys(devices), sides, formats, ways)
    measurable = [setting for setting in settings if setting[3] != "graph" or setting[0].kind == "cuda"]
    if not measurable:
        raise UserError(
            "--execution graph: replays CUDA graphs, which a CPU does not have; use --device cuda "
            "or --execution eager,compile"
        )
    return [
        EfficiencyJob(
            *(folder, entry, size, channels, node.device, node.threads, THROUGHPUT_S, dtype, form, budget_s),
            anew=True,
            weights=weights,
            classes=classes,
        ).planned()
        for node, size, dtype, form in measurable
        for entry in entries
    ]


def _one_of(text: str, flag: str, known: Sequence[Choice]) -> Choice:
    if (name := text.strip()) not in known:
        raise UserError(f"{flag} {name!r}: expected {', '.join(known)}{did_you_mean(name, known)}")
    return known[known.index(name)]


def side(text: str, entries: Iterable[ModelEntry]) -> int:
    """Read one number of ``--sizes`` that all networks take.

    Raises:
        UserError: it is no positive number, or a network does not take it.
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
