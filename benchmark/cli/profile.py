"""Defines the ``profile`` verb: measures efficiency without training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmark.cli.options import Models, Results, Threads
from benchmark.devices.hardware_slots import MissingDeviceError, hardware_of
from benchmark.records.user_folders import study_folder

if TYPE_CHECKING:
    from rich.console import Console

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
