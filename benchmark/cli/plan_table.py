"""Prints a plan: what runs, what it needs and how long it takes."""

from __future__ import annotations

import itertools
import shlex
from collections import Counter
from collections.abc import Sequence
from operator import attrgetter

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmark.cli.progress import duration
from benchmark.config.protocol import load_protocol
from benchmark.data.specs import KNOWN
from benchmark.data.stressed import Stresses
from benchmark.devices.hardware_slots import Hardware
from benchmark.study.plan import Plan
from benchmark.study.run_states import RunState, State
from benchmark.study.space_estimate import Needs, RunMemory, format_bytes
from benchmark.study.study import Study
from benchmark.study.time_estimate import Basis
from benchmark.study.time_left import TimeLeft
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

BASES: dict[Basis, str] = {
    "runs": "from times of earlier runs on this machine",
    "latencies": "from latencies measured on this machine",
    "macs": "from MACs: not yet measured on this machine",
}
MARKS: dict[State, str] = {"done": "D", "missing": ".", "interrupted": "I", "failed": "F", "stale": "S", "claimed": "C"}
WIDEST = 60  # repeats that are shown one by one


def print_plan(console: Console, study: Study, plan: Plan) -> None:
    """Print planned and finished runs, the stand-ins among the datasets and the estimated time."""
    protocol, hardware = study.protocol, study.hardware
    repeats, folds = protocol.repeats, protocol.split.folds
    times = counted(repeats, "repeat")
    if folds:
        times = counted(f"{repeats} of {folds}" if repeats < folds else repeats, "fold")
    console.print(
        Text.assemble(
            (f"Study {study.folder.name}", "bold"),
            f": protocol {protocol.name}, {counted(len(study.models), 'model')} x "
            f"{counted(len(study.tasks), 'training set')} x {times} = {counted(plan.runs, 'run')} on {hardware.device}",
            f" with {counted(hardware.threads, 'thread')}" if hardware.kind == "cpu" else "",
            f", {hardware.workers} at a time" if hardware.workers > 1 else "",
        )
    )
    table = Table(box=None, pad_edge=False, show_edge=False)
    crossed = any(task.train_names != task.test_names for task in study.tasks)
    for heading in ("trained on", "tested on", "source") if crossed else ("dataset", "source"):
        table.add_column(heading)
    for heading in ("input", "done", "to do", "failed"):
        table.add_column(heading, justify="right")
    done, failed = ([record.train for record in records] for records in (plan.done, plan.failed))
    to_do = [job.task.train_names for job in plan.todo]
    for task in study.tasks:
        size = task.input_size(protocol)
        table.add_row(
            task.name,
            *([", ".join(task.test_names)] if crossed else []),
            "; ".join(
                f"synthetic stand-in, {counted(source.count, 'image')}"
                if source.synthetic
                else f"{counted(len(source.pairs), 'image/label pair')}"
                for source in task.train
            ),
            f"{size}x{size}",
            *(str(trained.count(task.train_names)) for trained in (done, to_do, failed)),
        )
    console.print(table)
    for record in plan.failed:
        assert record.failure is not None
        console.print(
            f"failed earlier: {'+'.join(record.train)} {record.model} repeat {record.repeat} "
            f"({record.failure.kind}: {record.failure.message}); run again with --retry-failed"
        )
    if plan.stale and not plan.refusal:
        console.print(
            f"set aside in {study.folder / 'runs' / '.stale'}: {counted(len(plan.stale), 'run')} made under other "
            "settings"
        )
    if study.start:
        sources = sorted({job.init.facts.source for job in plan.todo if job.init})
        console.print(f"Runs start from the weights of {' or '.join(sources) or study.start.name}")
    for broken in plan.broken:
        again = any(job.folder == broken.folder for job in plan.todo)
        outcome = f"set aside in {study.folder / 'runs' / '.stale'} and done again" if again else "left as it is"
        console.print(f"broken record: {broken.reason}; the run is {outcome}")
    standins = [source for source in study.sources if source.synthetic]
    if standins:
        names = ", ".join(f"{source.name} (no {KNOWN[source.base].root or source.base} folder)" for source in standins)
        console.print(f"Synthetic, not real data: {names}. Bring real data as <data-root>/<name>/image and label.")
        for base in sorted({source.base for source in standins if KNOWN[source.base].source}):
            address = KNOWN[base].source[0].address
            console.print(f"`benchmark data prepare {base} COPY` makes {base} from a copy of {address}.")
    if study.stress:
        console.print(_stress(study.stress, plan))
    if study.ensembles:
        left = f"{len(plan.ensembles)} to test after the runs" if plan.ensembles else "nothing left to test"
        console.print(f"Ensembles of {protocol.repeats} repeats, whose weights are all kept: {left}")
    if plan.taken_over:
        studies = ", ".join(dict.fromkeys(plan.taken_over))
        remaining = len(plan.measurements) - len(plan.taken_over)
        console.print(
            f"Efficiency: {remaining} to measure, {len(plan.taken_over)} taken over from {studies}: the same network "
            "in the same setting, on this machine since it was started"
        )
    if not plan.nothing_left:
        seconds, guess = TimeLeft(plan.expected).left()
        console.print(f"Estimated time: {'a guess, ' * guess}about {duration(seconds)} ({BASES[plan.basis]})")


def _stress(stress: Stresses, plan: Plan) -> str:
    strengths = ", ".join(f"{strength:g}" for strength in stress.strengths)
    remaining = sum(len(planned.job.tests) for planned in plan.stress)
    return (
        f"Stress tests: as drawn, and {', '.join(stress.effects)} at {strengths} times the hardest that is drawn; "
        + (f"{remaining} to do for {counted(len(plan.stress), 'network')}" if remaining else "all done")
    )


def print_states(console: Console, states: Sequence[RunState]) -> None:
    """Print a letter per run and a line per reason; without a terminal, print a line per run."""
    if not console.is_terminal:
        for run in states:
            why = f" ({run.why})" if run.why else ""
            console.print(f"{run.train} {run.model} repeat {run.repeat}: {run.state}{why}")
        return
    for train, of_train in itertools.groupby(states, attrgetter("train")):
        console.print(_matrix(train, list(of_train)))
    present = {run.state for run in states}
    console.print("  ".join(f"{mark} {state}" for state, mark in MARKS.items() if state in present))
    notable = [run for run in states if run.why]
    for (train, model, state, why), runs in itertools.groupby(notable, attrgetter("train", "model", "state", "why")):
        repeats = ", ".join(str(run.repeat) for run in runs)
        console.print(f"{train} {model} repeat {repeats}: {state} ({why})")


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
    """Print memory and disk in a line each, with a warning if the memory is too small."""
    if needs.memory is not None:
        for line in _memory(needs.memory, hardware):
            console.print(line)
    for space in (needs.cache, needs.results):
        if space.bytes:
            parts = ", ".join(f"{part} {format_bytes(part_bytes)}" for part, part_bytes in space.parts.items())
            free = format_bytes(space.free)
            console.print(f"Estimated disk: {format_bytes(space.bytes)} in {space.folder} ({parts}); {free} free")
    if needs.unknown:
        names = ", ".join(needs.unknown)
        console.print(f"Size not known before it is measured: {names}; left out on the disk")


def _memory(memory: RunMemory, hardware: Hardware) -> list[str]:
    basis = "from training steps measured on this machine" if memory.measured else "a rough rule, not yet measured here"
    gpu = hardware.kind == "cuda"
    capacity = "" if memory.free is None else f"; {format_bytes(memory.free)} " + ("on the GPU" if gpu else "free")
    lines = [
        f"Estimated memory: {format_bytes(memory.bytes)} for {counted(memory.runs, 'run')} at a time"
        f"{' on each GPU' if gpu else ''}, most for {memory.largest} ({basis}){capacity}"
    ]
    if memory.free is not None and memory.bytes > memory.free:
        fewer = f"fewer runs at a time ({'--per-gpu' if gpu else '--workers'}) or " if memory.runs > 1 else ""
        lines.append(
            f"Warning: that is more than there is; runs may fail as out_of_memory. Try {fewer}a smaller "
            "--set training.micro_batch"
        )
    return lines


def too_long(seconds: float, protocol: str, flags: Sequence[str], overrides: Sequence[str]) -> str:
    """Warn of days or weeks on a CPU and name the commands that take minutes or hours.

    Args:
        seconds: estimate of the study.
        protocol: what was asked for; it is not proposed again.
        flags: the user's own flags of ``run``, without the protocol and its settings.
        overrides: values of ``--set``; a proposal leaves them out if its protocol refuses them.
    """

    proposals = []
    for preset, when in {"quick": "in minutes", "small": "after hours"}.items():
        if preset == protocol:
            continue
        try:
            load_protocol(preset, overrides)
            settings = list(itertools.chain.from_iterable(("--set", override) for override in overrides))
        except UserError:
            settings = []
        later = " (later with your settings)" * bool(settings)
        command = shlex.join(["python", "-m", "benchmark", "run", *flags, *settings, "--protocol", preset])
        proposals.append(f"{when}{later} with `{command}`")
    return (
        f"on this CPU the study would take about {duration(seconds)}. Use a GPU; or see results "
        f"{', or '.join(proposals)}; or add --yes to start anyway (Ctrl-C is safe: the same command goes on)"
    )
