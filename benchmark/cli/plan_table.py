"""What a person sees of a plan before a study works: where every run stands, and the memory and disk that it needs."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from rich.console import Console
from rich.table import Table

from benchmark.cli.progress import duration
from benchmark.devices.hardware import Hardware
from benchmark.study.run_states import RunState, State
from benchmark.study.space_estimate import Memory, Needs, Space, size
from benchmark.study.stress_plan import Planned

MARKS: dict[State, str] = {
    "done": "D",
    "missing": ".",
    "interrupted": "I",
    "failed": "F",
    "stale": "S",
    "claimed": "C",
}
WIDEST = 60  # repeats that are shown one by one


def print_states(console: Console, states: Sequence[RunState]) -> None:
    """Print a letter per run and a line for what a letter does not say; where nobody reads along, a line per run."""
    if not console.is_terminal:
        for run in states:
            why = f" ({run.why})" if run.why else ""
            console.print(
                f"{run.train} {run.model} repeat {run.repeat}: {run.state}{why}", markup=False, highlight=False
            )
        return
    for train, of_train in itertools.groupby(states, attrgetter("train")):
        console.print(_matrix(train, list(of_train)))
    there = {run.state for run in states}
    console.print("  ".join(f"{mark} {state}" for state, mark in MARKS.items() if state in there), highlight=False)
    notable = [run for run in states if run.why]
    for (train, model, state, why), runs in itertools.groupby(notable, attrgetter("train", "model", "state", "why")):
        repeats = ", ".join(str(run.repeat) for run in runs)
        console.print(f"{train} {model} repeat {repeats}: {state} ({why})", markup=False, highlight=False)


def print_stress(console: Console, planned: Sequence[Planned]) -> None:
    """Print a line per network with the stress tests that are left."""
    for one in planned:
        console.print(f"{one.label}: {one.told}", markup=False, highlight=False)


def _matrix(train: str, states: Sequence[RunState]) -> Table:
    repeats = max(run.repeat for run in states) + 1
    table = Table(box=None, pad_edge=False, show_edge=False)
    table.add_column(train)
    table.add_column(f"repeats 0 to {repeats - 1}" if repeats > 1 else "repeat 0")
    for model, of_model in itertools.groupby(states, attrgetter("model")):
        runs = {run.repeat: run.state for run in of_model}
        if repeats > WIDEST:
            counts = Counter(runs.values())
            text = ", ".join(f"{counts[state]} {state}" for state in MARKS if state in counts)
        else:
            text = " ".join(MARKS[runs[repeat]] if repeat in runs else " " for repeat in range(repeats))
        table.add_row(model, text)
    return table


def print_needs(console: Console, needs: Needs, hardware: Hardware) -> None:
    """Print memory and disk in a line each, and a warning where the memory will not do."""
    if needs.memory is not None:
        for line in _memory(needs.memory, hardware):
            console.print(line, markup=False, highlight=False)
    for space in (needs.cache, needs.results):
        if space.bytes:
            console.print(_disk(space), markup=False, highlight=False)
    if needs.unknown:
        names = ", ".join(needs.unknown)
        console.print(f"Size not known before it is measured: {names}; left out on the disk", highlight=False)


def _memory(memory: Memory, hardware: Hardware) -> list[str]:
    basis = "from training steps measured on this machine" if memory.measured else "a rough rule, not yet measured here"
    gpu = hardware.kind == "cuda"
    there = "" if memory.free is None else f"; {size(memory.free)} " + ("on the GPU" if gpu else "free")
    lines = [
        f"Estimated memory: {size(memory.bytes)} for {memory.runs} run(s) at a time"
        f"{' on each GPU' if gpu else ''}, most for {memory.largest} ({basis}){there}"
    ]
    if memory.free is not None and memory.bytes > memory.free:
        fewer = f"fewer runs at a time ({'--per-gpu' if gpu else '--workers'}) or " if memory.runs > 1 else ""
        lines.append(
            f"Warning: that is more than there is; runs may fail as out_of_memory. Try {fewer}a smaller "
            "--set training.micro_batch"
        )
    return lines


def _disk(space: Space) -> str:
    parts = ", ".join(f"{what} {size(taken)}" for what, taken in space.parts.items())
    return f"Estimated disk: {size(space.bytes)} in {space.folder} ({parts}); {size(space.free)} free"


def too_long(seconds: float, asked: Sequence[str]) -> str:
    """Say that a CPU would take days or weeks, and how to see results in minutes.

    Args:
        seconds: estimate for the study.
        asked: flags of ``run`` that say of what.
    """
    words = ["python", "-m", "benchmark", "run", *asked, "--protocol", "quick"]
    return (
        f"on this CPU the study would take about {duration(seconds)}. Use a GPU; or see results in minutes with "
        f"`{shlex.join(words)}`; or add --yes to start anyway (Ctrl-C is safe: the same command goes on)"
    )
