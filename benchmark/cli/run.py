"""Defines the ``run`` verb: trains and tests models, then writes the report."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli import options
from benchmark.cli.options import DATA_ROOT, find_training, study_folder
from benchmark.cli.reproduce import flags_given, repeat_run, words_given
from benchmark.devices.hardware_slots import hardware_of, hardware_of_node
from benchmark.utils.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.executors.events import Event, Executor
    from benchmark.study.plan import Plan
    from benchmark.study.study import Study

#: Flags in the panels of `run --help`.
PANELS = {
    "What to run": ("models", "datasets", "train", "test", "leave_one_out", "repeats", "stress", "strength"),
    "Data": ("data_root", "cache", "real_only"),
    "How to train": ("protocol", "set_", "init_from", "execution"),
    "Hardware": ("device", "threads", "workers", "per_gpu", "timeout", "executor", "ray_address", "slurm"),
    "Output": ("study", "results", "reference", "keep_weights", "tracker"),
    "Plan and earlier runs": ("dry_run", "yes", "retry_failed", "replace_stale", "fail_fast", "reproduce"),
}
PATIENCE_S = 12 * 3600  # a study that takes a CPU longer is most likely not meant


def run(
    context: typer.Context,
    models: options.Models = "all",
    datasets: options.Datasets = "all",
    train: Annotated[str | None, typer.Option(help="Datasets that form one training set; replaces --datasets.")] = None,
    test: Annotated[str | None, typer.Option(help="Datasets to test on; default: the training datasets.")] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="For each dataset: train on all others, test on this one.")
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
            metavar="STUDY[:TRAINED_ON]",
            help="Start from the weights of the same models in another study, a name or a path.",
        ),
    ] = None,
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
        Literal["tensorboard"] | None, typer.Option(help="Also write TensorBoard event files of each training.")
    ] = None,
    real_only: Annotated[bool, typer.Option("--real-only", help="Refuse synthetic stand-ins.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed runs again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    replace_stale: Annotated[
        bool, typer.Option("--replace-stale", help="Set aside runs made under other settings and run them again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan with the status of every run, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start even if a CPU would need more than 12 hours.")] = False,
    reproduce: Annotated[
        Path | None,
        typer.Option(metavar="RECORD.json", help="Only repeat this run and compare; exit 1 if a number differs."),
    ] = None,
) -> None:
    """Train and test models on datasets, then write the report."""
    from benchmark.cli.progress import open_console

    console = open_console()
    if reproduce is not None:
        raise typer.Exit(repeat_run(reproduce, flags_given(context), console))

    if tracker is not None:
        require("tensorboard", flag=f"--tracker {tracker}", extra="trackers")

    spare_worker = None
    if executor == "local" and not dry_run:
        from benchmark.executors.worker import Worker

        spare_worker = Worker(ahead=True)  # importing torch takes longer than making the plan, so both are done at once
        context.call_on_close(spare_worker.end)

    from benchmark.cli.plan_table import too_long
    from benchmark.config import registry, unused_settings
    from benchmark.config.protocol import load_protocol
    from benchmark.data import specs
    from benchmark.data.datasets import choose, names_of_all, resolve
    from benchmark.data.fingerprint import HashCache
    from benchmark.data.stressed import Stresses
    from benchmark.data.tasks import DatasetFlags, arrange
    from benchmark.executors import choice
    from benchmark.records.method import check_method
    from benchmark.study.plan import make_plan
    from benchmark.study.probe_networks import probe_study
    from benchmark.study.study import Study

    stresses = Stresses.parse(stress, strength)
    engine = choice.choose(
        executor, slurm=slurm, address=ray_address, workers=workers, per_gpu=per_gpu, timeout_s=timeout
    )
    overrides = [*(set_ or []), *([f"repeats={repeats}"] if repeats is not None else [])]
    loaded = load_protocol(protocol, overrides)
    folder = study_folder(results, study or loaded.name)
    hardware = hardware_of_node(device, threads, executor) if engine.remote else hardware_of(device, threads)
    selection = DatasetFlags(datasets, train, test, leave_one_out)
    options.check_data_root(data_root)
    entries = registry.select(models)
    if reference is not None:
        earlier = [path.name for path in (folder / "runs").glob("[!.]*/[!.]*/")]
        reference = check_method(reference, dict.fromkeys([*(entry.name for entry in entries), *earlier]))
    loaded = specs.fit(loaded, list(choose(selection.names, data_root).values()))
    cache = cache or data_root / ".cache"
    hashes = HashCache(cache / "hashes.json")
    tasks = arrange(
        lambda names: resolve(names, data_root, loaded, hashes, real_only=real_only),
        datasets=datasets,
        train=train,
        test=test,
        leave_one_out=leave_one_out,
    )
    largest = max(loaded.input.size_for(source.name) for task in tasks for source in task.sources)
    hardware = hardware.with_slots(workers=workers, per_gpu=per_gpu, input_size=largest)
    new_study = Study(
        *(folder, loaded, entries, tasks, hardware, cache, keep_weights, fail_fast),
        execution=execution,
        tracker=tracker,
        stress=stresses,
        reference=reference,
    )
    bases = {source.base for source in new_study.sources}
    divided = all(source.pairs and all(pair.split for pair in source.pairs) for source in new_study.sources)
    known, stored = names_of_all(data_root), new_study.store.read_protocol()
    unused_settings.refuse_for(bases, new_study.protocol, overrides, known, stored, divided=divided)
    if init_from is not None:
        from benchmark.training.finetune import Start

        new_study.start = Start.of(*find_training(results, init_from, "--init-from"), folder)
    plan = make_plan(new_study, retry_failed=retry_failed, replace_stale=replace_stale, refuse=not dry_run)
    if spare_worker is not None and not (plan.todo or plan.measurements or plan.stress):
        spare_worker.end()
    probe_study(new_study, plan, console.print)
    _print_plan(console, new_study, plan, dry_run=dry_run)
    if engine.line:
        console.print(engine.line)
    if new_study.hardware.kind == "cpu" and not engine.remote and plan.seconds > PATIENCE_S and not yes:
        words = words_given(context, without={"protocol", "set_", "dry_run", "yes"})
        warning = too_long(plan.seconds, words, set_ or [])
        if not dry_run:
            raise UserError(warning)
        console.print(warning)
    if not dry_run:
        raise typer.Exit(_execute(console, new_study, plan, engine.executor(new_study.hardware, folder, spare_worker)))


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
    if plan.refusal:
        raise UserError(plan.refusal)
    space.refuse_full_disk()
    for note in refuse_unfillable(study, plan):
        if dry_run:  # a run prints it when it opens the packs
            console.print(note)


def _execute(console: Console, study: Study, plan: Plan, executor: Executor) -> int:
    """Execute a plan under a display, write the report, and return the exit code."""
    from benchmark.cli.interim_report import InterimReport
    from benchmark.cli.study_display import StudyDisplay
    from benchmark.cli.summary import print_failures, print_summary
    from benchmark.study.execute import execute

    display, interrupted = StudyDisplay(console, plan), False
    try:
        with InterimReport(study.folder, plan.todo) as interim, display:

            def show(event: Event) -> None:
                display.show(event)
                interim.show(event)

            execute(study, plan, executor, show)
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
