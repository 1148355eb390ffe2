"""Defines the ``run`` verb: trains and tests models, then writes the report."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli import options
from benchmark.cli.config_file import SETTINGS, describe_other_study, drop_replaced, read_config
from benchmark.cli.reproduce import flags_given, repeat_run, words_given
from benchmark.records.user_folders import DATA_ROOT
from benchmark.utils.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.api.study_request import PlannedStudy
    from benchmark.executors.events import Event
    from benchmark.executors.worker import Worker
    from benchmark.study.plan import Plan
    from benchmark.study.study import Study

#: Flags in the panels of `run --help`.
PANELS = {
    "What to run": (
        *("models", "datasets", "train", "test", "leave_one_out"),
        *("repeats", "ensembles", "stress", "strength"),
    ),
    "Data": ("data_root", "cache", "real_only"),
    "How to train": ("protocol", "set_", "init_from", "execution"),
    "Hardware": ("device", "threads", "workers", "per_gpu", "timeout", "executor", "ray_address", "slurm"),
    "Output": ("study", "results", "reference", "keep_weights", "tracker"),
    "Plan and earlier runs": ("config", "dry_run", "yes", "retry_failed", "replace_stale", "fail_fast", "reproduce"),
}


def run(
    context: typer.Context,
    models: options.Models = "all",
    datasets: options.Datasets = "all",
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="TOML",
            is_eager=True,
            callback=read_config,
            help="File of these flags, such as a study's study.toml; typed flags win, and --no-FLAG switches off.",
        ),
    ] = None,
    train: Annotated[str | None, typer.Option(help="Datasets that form one training set; replaces --datasets.")] = None,
    test: Annotated[str | None, typer.Option(help="Datasets to test on; default: the training datasets.")] = None,
    leave_one_out: Annotated[
        bool, typer.Option(help="For each dataset: train on all others, test on this one.")
    ] = False,
    protocol: options.ProtocolName = "paper",
    repeats: options.Repeats = None,
    study: options.StudyName = None,
    reference: options.Reference = None,
    results: options.Results = Path("results"),
    data_root: options.DataRoot = DATA_ROOT,
    cache: options.Cache = None,
    device: options.Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in total; default: all cores.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Parallel runs; default: 1, or one per core on a CPU for small inputs.")
    ] = None,
    per_gpu: Annotated[
        int, typer.Option(min=1, help="Parallel runs on each GPU; light networks leave most of a large GPU idle.")
    ] = 1,
    executor: Annotated[
        Literal["local", "ray", "slurm"], typer.Option(help="Executor of the runs: this machine, Ray or Slurm.")
    ] = "local",
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster: auto or HOST:PORT; default: RAY_ADDRESS, or a new Ray on this machine."),
    ] = None,
    slurm: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=VALUE,...", help="partition, account, qos, constraint, gres, time, mem, array, cache."
        ),
    ] = None,
    execution: Annotated[
        Literal["auto", "eager", "graph", "compile"],
        typer.Option(help="CUDA graphs, torch.compile or neither; auto: graphs on a GPU, eager on a CPU."),
    ] = "eager",
    timeout: Annotated[
        float | None, typer.Option(min=1, metavar="SECONDS", help="End a run that takes longer; it counts as failed.")
    ] = None,
    set_: options.Overrides = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            metavar="STUDY[:TRAINED_ON]|FILE",
            help="Start from the weights of the same models in another study, a name or a path, or one file.",
        ),
    ] = None,
    ensembles: Annotated[
        bool,
        typer.Option(
            help="After training, also test the mean of each network's repeats; keeps the weights of all repeats.",
        ),
    ] = False,
    stress: Annotated[
        str | None,
        typer.Option(
            metavar="EFFECT,...",
            help="After training, test stand-ins with one stronger effect: clouds, defocus, noise or roughness.",
        ),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(
            metavar="S,...", help="Factors of the hardest effect in training, for --stress; default: 0.5,1,2."
        ),
    ] = None,
    keep_weights: Annotated[
        Literal["best-repeat", "all", "none"], typer.Option(help="Trained weights that stay on disk.")
    ] = "best-repeat",
    tracker: Annotated[
        Literal["tensorboard", "mlflow", "wandb"] | None,
        typer.Option(help="Also write files of each training for TensorBoard, MLflow or W&B; nothing is sent."),
    ] = None,
    real_only: Annotated[bool, typer.Option(help="Refuse synthetic stand-ins.")] = False,
    retry_failed: Annotated[bool, typer.Option(help="Run failed runs again.")] = False,
    fail_fast: Annotated[bool, typer.Option(help="Stop at the first failure.")] = False,
    replace_stale: Annotated[
        bool, typer.Option(help="Set aside runs made under other settings and run them again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the plan with the status of every run, and stop.")] = False,
    yes: Annotated[bool, typer.Option(help="Start even if a CPU would need more than 12 hours.")] = False,
    reproduce: Annotated[
        Path | None,
        typer.Option(metavar="RECORD.json", help="Only repeat this run and compare; exit 1 if a number differs."),
    ] = None,
) -> None:
    """Train and test models on datasets, then write the report."""
    flags = dict(locals())  # before there are other variables
    from benchmark.cli.progress import open_console

    console = open_console()
    if reproduce is not None:
        raise typer.Exit(repeat_run(reproduce, flags_given(context), console))

    if tracker is not None:
        require(tracker, flag=f"--tracker {tracker}", extra="trackers")

    spare_worker = None
    if executor == "local" and not dry_run:
        from benchmark.executors.worker import Worker

        spare_worker = Worker(ahead=True)  # importing torch takes longer than making the plan, so both are done at once
        context.call_on_close(spare_worker.end)

    from benchmark.api.study_request import StudyRequest
    from benchmark.cli.plan_table import too_long
    from benchmark.study.probe_networks import probe_study

    drop_replaced(context, flags, set_ or ())
    names = [field.name for field in dataclasses.fields(StudyRequest) if field.name in flags]
    settings = *context.meta.get(SETTINGS, ()), *(set_ or ())  # the later one wins
    request = StudyRequest(**{name: flags[name] for name in names}, settings=settings)
    planned = request.plan(refuse=not dry_run)
    planned_study, plan = planned.study, planned.plan
    if note := describe_other_study(config, planned_study.folder):
        console.print(note)
    if spare_worker is not None and plan.nothing_left:
        spare_worker.end()
    probe_study(planned_study, plan, console.print)
    _print_plan(console, planned_study, plan, dry_run=dry_run)
    if planned.engine.line:
        console.print(planned.engine.line)
    if planned.takes_too_long and not yes:
        words = words_given(context, without={"protocol", "set_", "dry_run", "yes"})
        warning = too_long(plan.seconds, request.protocol, words, set_ or [])
        if not dry_run:
            raise UserError(warning)
        console.print(warning)
    if not dry_run:
        raise typer.Exit(_execute(console, planned, spare_worker))


def _print_plan(console: Console, study: Study, plan: Plan, *, dry_run: bool) -> None:
    """Print a plan and refuse an impossible one."""
    from benchmark.cli import plan_table
    from benchmark.study.run_states import states
    from benchmark.study.space_estimate import estimate_needs, refuse_unfillable

    plan_table.print_plan(console, study, plan)
    space = estimate_needs(study, plan)
    plan_table.print_needs(console, space, study.hardware)
    if dry_run:
        plan_table.print_states(console, states(study, plan))
        for network in plan.stress:
            console.print(f"{network.label}: {network.summary}")
        for job in plan.ensembles:
            console.print(f"{job.label}: {', '.join(source.name for source, _ in job.tests)}")
    if plan.refusal:
        raise UserError(plan.refusal)
    space.refuse_full_disk()
    for note in refuse_unfillable(study, plan):
        if dry_run:  # a run prints it when it opens the packs
            console.print(note)


def _execute(console: Console, planned: PlannedStudy, spare_worker: Worker | None) -> int:
    """Execute a plan under a display, write the report, and return the exit code."""
    from benchmark.cli.interim_report import InterimReport
    from benchmark.cli.study_display import StudyDisplay
    from benchmark.cli.summary import print_failures, print_summary

    study, plan = planned.study, planned.plan
    display, interrupted = StudyDisplay(console, plan), False
    try:
        with InterimReport(study.folder, plan.todo) as interim, display:

            def show(event: Event) -> None:
                display.show(event)
                interim.show(event)

            planned.execute(show, spare_worker)
    except KeyboardInterrupt:
        interrupted = True
        console.print("Interrupted. Finished runs are kept; the same command goes on from here.")
    try:
        page = _make_report(console, study, plan)
        if not interrupted:
            print_summary(console, study.folder)
            print_failures(console, display.failures)
    except KeyboardInterrupt:
        console.print(f"Interrupted. `report {study.folder.name}` makes the report.")
        return 130
    except UserError:
        if not interrupted:
            raise
        return 130  # nothing to report yet
    console.print(f"Report: {page}")
    return 130 if interrupted else 1 if display.failures or plan.failed else 0


def _make_report(console: Console, study: Study, plan: Plan) -> Path:
    """Make a study's report, unless nothing has changed since it was made, and return its page."""
    from benchmark.cli.progress import ProgressDisplay, duration
    from benchmark.report import up_to_date

    if not up_to_date.is_up_to_date(study.folder):
        started, expected = time.monotonic(), duration(study.costs.report_seconds(plan.runs))
        console.print(f"Making the report, about {expected}; Ctrl-C skips it.")
        with ProgressDisplay(console) as progress:
            progress.begin("report", left=lambda: f"{duration(time.monotonic() - started)} of about {expected}")
            from benchmark.report import build  # imports matplotlib

            build.build(study.folder, tell=console.print)
        study.costs.remember_report(plan.runs, time.monotonic() - started)
    return study.folder / up_to_date.FOLDER / up_to_date.PAGE
