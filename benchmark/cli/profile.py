"""Defines the ``profile`` verb: measures efficiency without training."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import Models, Results, Threads
from benchmark.devices.hardware_slots import MissingDeviceError, hardware_of
from benchmark.records.user_folders import study_folder
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from benchmark.config.registry import ModelEntry
    from benchmark.devices.hardware_slots import Hardware


def profile(
    models: Models = "all",
    sizes: Annotated[str, typer.Option(help="Comma list of input sides, pixels.")] = "512",
    devices: Annotated[str, typer.Option("--device", help="Comma list of auto, cpu, cuda, cuda:N.")] = "auto",
    dtypes: Annotated[str, typer.Option("--dtype", help="Comma list of float32, bfloat16, float16.")] = "float32",
    form: Annotated[
        str, typer.Option("--execution", help="Comma list of eager, graph (a CUDA graph) and compile (torch.compile).")
    ] = "eager",
    threads: Threads = None,
    channels: Annotated[
        int | None, typer.Option(min=1, help="Input channels; default: 1, or those of --weights.")
    ] = None,
    weights: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Weights of one network, as predict takes them; default: random ones."),
    ] = None,
    layers: Annotated[
        str | None,
        typer.Option(metavar="NAME,NAME", help="Layers that the networks mark, a logit each; default: a single one."),
    ] = None,
    budget: Annotated[
        float | None,
        typer.Option(min=1, help="Seconds for a network's timings in one setting; tables name the number of timings."),
    ] = None,
    runtimes: Annotated[
        bool,
        typer.Option(
            "--runtimes", help="Time forwards by onnxruntime, OpenVINO and torch.compile beside torch's only."
        ),
    ] = False,
    study: Annotated[str, typer.Option(help="Name of the study that keeps the figures.")] = "profile",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Keep existing figures of the study, for example after an interrupted call."),
    ] = False,
    results: Results = Path("results"),
) -> None:
    """Measure parameters, MACs, latency and memory without training.

    A new measurement replaces the older one of the same setting; the others of the study stay.
    """
    from benchmark.cli.progress import duration, open_console
    from benchmark.cli.summary import print_summary
    from benchmark.config import registry
    from benchmark.data.fingerprint import HashCache
    from benchmark.executors.events import Finished
    from benchmark.executors.local import LocalExecutor
    from benchmark.records.chosen_networks import input_channels, layer_names, one_file
    from benchmark.records.own_networks import keep_networks
    from benchmark.records.run_record import Failure
    from benchmark.report import build
    from benchmark.runs.jobs import EfficiencyJob, Elsewhere
    from benchmark.study import measure_study
    from benchmark.training.finetune import FileStart
    from benchmark.training.probe import ProbeInput, probe_networks
    from benchmark.utils.words import counted

    console, folder = open_console(), study_folder(results, study)
    hardware = _devices(devices, threads, console)
    file = one_file(weights) if weights else None
    names = layer_names(layers)
    entries, channels = registry.select(models), input_channels(models, file, channels, names)
    start = FileStart(file).weights(models, 0, HashCache(None)) if file else None
    if runtimes:
        flags = {"--dtype": dtypes != "float32", "--execution": form != "eager", "--budget": budget is not None}
        if idle := [flag for flag, present in {**flags, "--resume": resume}.items() if present]:
            raise UserError(f"{', '.join(idle)}: not with --runtimes, which times float32 forwards; leave it out")
        raise typer.Exit(_time_runtimes(console, folder, entries, sizes, hardware, channels, file, max(1, len(names))))
    jobs = measure_study.profile_jobs(
        *(folder, entries, sizes, dtypes, hardware, channels),
        forms=form,
        budget_s=budget,
        weights=start,
        classes=max(1, len(names)),
    )
    if "graph" in form and any(machine.kind == "cpu" for machine in hardware):
        console.print("left out: --execution graph on a CPU, which has no CUDA graphs")
    if resume:
        planned, jobs = len(jobs), [job for job in jobs if job.stored() is None]
        console.print(f"--resume: {folder} has {planned - len(jobs)} of {counted(planned, 'setting')}")
    inputs = [ProbeInput(job.size, channels) for job in jobs]
    on_cpu = all(machine.kind == "cpu" for machine in hardware)
    probe_networks([job.entry for job in jobs], inputs, console.print, on_cpu=on_cpu)
    keep_networks(folder, entries)
    done: list[Finished] = []
    for event in LocalExecutor().run(jobs):
        if isinstance(event, Finished):
            done.append(event)
            if isinstance(event.outcome, Failure):
                outcome = f"{event.outcome.kind}: {event.outcome.message}"
            else:
                summary = event.job.outcome() if isinstance(event.job, EfficiencyJob) else ""
                elsewhere = isinstance(event.outcome, Elsewhere)
                outcome = f"{summary}, {'by another process' if elsewhere else duration(event.seconds)}"
            console.print(f"[{len(done)}/{len(jobs)}] {event.job.label} on {event.job.device}: {outcome}")
    failures = [event.outcome for event in done if isinstance(event.outcome, Failure)]
    if len(failures) < len(jobs) or not jobs:
        build.build(folder)
        print_summary(console, folder)
        console.print(f"Report: {folder / 'report/index.html'}")
    # A computation that the device does not support is a finding, not a failure.
    raise typer.Exit(1 if any(failure.kind != "unsupported" for failure in failures) else 0)


def _time_runtimes(
    console: Console, folder: Path, entries: Sequence[ModelEntry], sizes: str, machines: Sequence[Hardware],
    channels: int, weights: Path | None, classes: int,
) -> int:  # fmt: skip
    """Time forwards by several runtimes and print the table; return the exit code."""
    from benchmark.records import provenance
    from benchmark.records.efficiency_record import EfficiencySettings
    from benchmark.records.own_networks import keep_networks
    from benchmark.records.store import Store
    from benchmark.records.weights import load_weights, read_weights
    from benchmark.report import build
    from benchmark.runs.failures import describe_failure
    from benchmark.speedup.networks import build as build_network
    from benchmark.speedup.runtime_forwards import beside_runtimes
    from benchmark.speedup.setting import SpeedupSetting
    from benchmark.study.measure_study import side
    from benchmark.training.probe import ProbeInput, probe_networks
    from benchmark.utils.files import write_atomically

    sides = list(dict.fromkeys(side(text, entries) for text in sizes.split(",")))
    on_cpu = all(machine.kind == "cpu" for machine in machines)
    probe_networks(entries, [ProbeInput(of, channels) for of in sides], console.print, on_cpu=on_cpu)
    keep_networks(folder, entries)
    packages = Store(folder).write_packages(provenance.packages())
    failures = []
    for machine, of, entry in itertools.product(machines, sides, entries):
        timing = EfficiencySettings.for_device(machine.device).model_copy(update={"warm_up": 1, "min_iterations": 7})
        setting = SpeedupSetting(machine.device, machine.threads, timing, 1, {"package_list": packages})
        label = f"{entry.name} {of} on {machine.device}"
        console.print(f"{label}: runtimes")
        try:
            network = build_network(entry, channels, classes)
            if weights:
                load_weights(network, weights, read_weights(weights))
            record = beside_runtimes(entry, of, setting, network=network, channels=channels)
        except Exception as error:  # a user's network may raise anything
            failures.append(describe_failure(error, entry=entry))
            console.print(f"{label}: failed ({failures[-1].kind}): {failures[-1].message}")
        else:
            write_atomically(folder / "bench" / record.file_name, record.to_json())
    if len(failures) < len(machines) * len(sides) * len(entries):
        build.build(folder)
        console.print((folder / "report/tables/runtimes.md").read_text("utf-8"))
        console.print(f"Report: {folder / 'report/index.html'}")
    return 1 if any(failure.kind != "unsupported" for failure in failures) else 0


def _devices(devices: str, threads: int | None, console: Console) -> list[Hardware]:
    """Resolve ``--device``; leave out missing ones with a note, and refuse if none is present."""
    present, missing = [], []
    for text in devices.split(","):
        try:
            present.append(hardware_of(text.strip(), threads, "--device"))
        except MissingDeviceError as error:
            missing.append(error)
    if not present:
        raise missing[0]
    for reason in missing:
        console.print(f"left out: {reason}")
    return present
