"""The command line: verbs and flags, with nothing heavy imported before a verb runs."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark import __version__
from benchmark.cli import bench as cli_bench
from benchmark.cli import data as cli_data
from benchmark.cli import export as cli_export
from benchmark.cli import predict as cli_predict
from benchmark.cli import profile as cli_profile
from benchmark.cli import report as cli_report
from benchmark.cli import reproduce as cli_reproduce
from benchmark.cli import score as cli_score
from benchmark.cli import stages as cli_stages
from benchmark.cli.options import (
    DATA_ROOT,
    Cache,
    DataRoot,
    Datasets,
    Device,
    Models,
    Overrides,
    ProtocolName,
    Repeats,
    Results,
    StudyName,
    check_data_root,
    study_folder,
)
from benchmark.config.own_packages import refuse_hidden
from benchmark.devices.hardware import hardware_of, hardware_of_node
from benchmark.utils import logs, telemetry
from benchmark.utils.errors import UserError, require

if TYPE_CHECKING:
    from rich.console import Console

    from benchmark.config.execution import Execution
    from benchmark.config.protocol import Protocol
    from benchmark.data.tasks import DatasetFlags
    from benchmark.devices.hardware import Hardware
    from benchmark.executors.events import Executor
    from benchmark.runs.jobs import KeepWeights
    from benchmark.study.plan import Plan
    from benchmark.study.study import Study

app = typer.Typer(
    name="benchmark",
    help="Benchmark EAL-ICNet against ten networks on integrated-circuit images, down to tables and plots.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(cli_data.app, name="data")
app.command()(cli_report.report)
app.command()(cli_report.diff)
app.command()(cli_profile.profile)
app.command()(cli_bench.bench)
app.command()(cli_score.score)
app.command()(cli_predict.predict)
app.command()(cli_stages.stages)
app.command()(cli_export.export)

PATIENCE_S = 12 * 3600  # a study that takes a CPU longer is most likely not meant


@app.command()
def run(
    context: typer.Context,
    models: Models = "all",
    datasets: Datasets = "all",
    train: Annotated[
        str | None, typer.Option(help="Datasets that are one training set together, in place of --datasets.")
    ] = None,
    test: Annotated[str | None, typer.Option(help="Datasets to test on; default: those trained on.")] = None,
    leave_one_out: Annotated[
        bool, typer.Option("--leave-one-out", help="Train on all datasets but one and test on that one, each in turn.")
    ] = False,
    protocol: ProtocolName = "paper",
    repeats: Repeats = None,
    study: StudyName = None,
    results: Results = Path("results"),
    data_root: DataRoot = DATA_ROOT,
    cache: Cache = None,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all; default: all cores.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; default: one, or one per core on a CPU for small inputs.")
    ] = None,
    per_gpu: Annotated[
        int, typer.Option(min=1, help="Runs at a time on each GPU: light networks leave most of a large one idle.")
    ] = 1,
    executor: Annotated[
        Literal["local", "ray", "slurm"], typer.Option(help="What does the runs: this machine, Ray or Slurm.")
    ] = "local",
    ray_address: Annotated[
        str | None, typer.Option(help="A Ray cluster: auto or HOST:PORT; default: RAY_ADDRESS, or a Ray of its own.")
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
    set_: Overrides = None,
    init_from: Annotated[
        str | None,
        typer.Option(metavar="STUDY[:TRAINED_ON]", help="Start from another study's weights of the same models."),
    ] = None,
    stress: Annotated[
        str | None,
        typer.Option(
            metavar="EFFECT,...",
            help="Then test stand-ins with clouds, defocus, noise or roughness alone made stronger; all else as drawn.",
        ),
    ] = None,
    strength: Annotated[
        str | None,
        typer.Option(metavar="S,...", help="Of --stress, times the hardest that training shows; default: 0.5,1,2."),
    ] = None,
    keep_weights: Annotated[
        Literal["best-repeat", "all", "none"], typer.Option(help="Whose trained weights stay on disk.")
    ] = "best-repeat",
    tracker: Annotated[
        Literal["tensorboard"] | None,
        typer.Option(help="Also write each training's course as TensorBoard's event files."),
    ] = None,
    real_only: Annotated[bool, typer.Option("--real-only", help="Refuse synthetic stand-ins.")] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed runs again.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Stop at the first failure.")] = False,
    replace_stale: Annotated[
        bool, typer.Option("--replace-stale", help="Set aside runs made under other settings and run them again.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the plan and where every run stands, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Start also where a CPU would need more than 12 hours.")] = False,
    reproduce: Annotated[
        Path | None,
        typer.Option(metavar="RECORD.json", help="Only repeat this one run and compare; exit 1 if a number differs."),
    ] = None,
) -> None:
    """Train and test models on datasets, as often as the protocol repeats, then write tables and plots."""
    if reproduce is not None:
        flags = cli_reproduce.given(context)
        raise typer.Exit(cli_reproduce.reproduce(reproduce, flags, _console(), hardware_of))

    if tracker is not None:
        require("tensorboard", flag=f"--tracker {tracker}", extra="trackers")

    ahead = None
    if executor == "local" and not dry_run:
        from benchmark.executors.worker import Worker

        ahead = Worker(ahead=True)  # importing torch takes longer than making the plan, so both are done at once
        context.call_on_close(ahead.end)

    from benchmark.cli import plan_table as terminal_plan
    from benchmark.config import protocol as protocols
    from benchmark.config import unused_settings as unread
    from benchmark.data.datasets import names_of_all
    from benchmark.data.stressed import Stresses
    from benchmark.data.tasks import DatasetFlags
    from benchmark.executors import choice as options
    from benchmark.study.plan import make_plan
    from benchmark.study.probe_networks import probe_study

    stresses = Stresses.parse(stress, strength)
    engine = options.choose(
        executor, slurm=slurm, address=ray_address, workers=workers, per_gpu=per_gpu, timeout_s=timeout
    )
    overrides = [*(set_ or []), *([f"repeats={repeats}"] if repeats is not None else [])]
    chosen = protocols.load(protocol, overrides)
    place = study_folder(results, study or chosen.name)
    console = _console()
    hardware = hardware_of_node(device, threads, executor) if engine.remote else hardware_of(device, threads)
    wanted = DatasetFlags(datasets, train, test, leave_one_out)
    made = _study(
        models, wanted, chosen, place, data_root, cache, hardware, workers, per_gpu, keep_weights, real_only, execution
    )
    bases = {source.base for source in made.sources}
    divided = all(source.pairs and all(pair.split for pair in source.pairs) for source in made.sources)
    there = names_of_all(data_root), made.store.read_protocol()
    unread.refuse_for(bases, made.protocol, overrides, *there, divided=divided)
    made.fail_fast = fail_fast
    made.tracker = tracker
    made.stress = stresses
    if init_from is not None:
        from benchmark.training.finetune import Start

        name, _, trained_on = init_from.partition(":")
        made.start = Start.of(study_folder(results, name, "--init-from"), trained_on, place)
    plan = make_plan(made, retry_failed=retry_failed, replace_stale=replace_stale, refuse=not dry_run)
    probe_study(made, plan, typer.echo)
    _tell(console, made, plan, every_run=dry_run)
    if engine.line:
        console.print(engine.line, markup=False, highlight=False)
    if made.hardware.kind == "cpu" and not engine.remote and plan.seconds > PATIENCE_S and not yes:
        place_of_data = ["--data-root", str(data_root)] if data_root != DATA_ROOT else []
        too_long = terminal_plan.too_long(plan.seconds, ["--models", models, *wanted.flags, *place_of_data])
        if not dry_run:
            raise UserError(too_long)
        console.print(too_long, markup=False, highlight=False)
    if not dry_run:
        raise typer.Exit(_work(console, made, plan, engine.executor(made.hardware, place, ahead)))


def _tell(console: Console, study: Study, plan: Plan, *, every_run: bool) -> None:
    """Print a plan; refuse one that cannot be done."""
    from benchmark.cli import plan_table as terminal_plan
    from benchmark.cli import progress as terminal
    from benchmark.study import run_states as states
    from benchmark.study import space_estimate as needs

    terminal.print_plan(console, study, plan)
    needed = needs.needs(study, plan)
    terminal_plan.print_needs(console, needed, study.hardware)
    if every_run:
        terminal_plan.print_states(console, states.states(study, plan))
        terminal_plan.print_stress(console, plan.stress)
    if plan.refusal:
        raise UserError(plan.refusal)
    needed.refuse_full_disk()
    for note in needs.refuse_unfillable(study, plan):
        if every_run:  # a run tells it when it opens the packs
            console.print(note, markup=False, highlight=False)


def _work(console: Console, study: Study, plan: Plan, executor: Executor) -> int:
    """Execute a plan under a display, write the report, and return the exit code."""
    from benchmark.cli import progress as terminal
    from benchmark.report import build as report
    from benchmark.study.execute import execute

    display = terminal.Display(console, plan)
    try:
        with display:
            execute(study, plan, executor, display.show)
    except KeyboardInterrupt:
        console.print("Interrupted. Finished runs are kept; the same command goes on from here.")
        return 130
    report.build(study.folder, tell=lambda line: console.print(line, markup=False, highlight=False))
    terminal.print_summary(console, study.folder)
    terminal.print_failures(console, display.failures)
    console.print(f"Report: {study.folder / 'report'}")
    return 1 if display.failures or plan.failed else 0


def _study(
    models: str,
    wanted: DatasetFlags,
    protocol: Protocol,
    folder: Path,
    data_root: Path,
    cache: Path | None,
    hardware: Hardware,
    workers: int | None,
    per_gpu: int,
    keep_weights: KeepWeights,
    real_only: bool,
    execution: Execution,
) -> Study:
    from benchmark.config import registry
    from benchmark.data import specs
    from benchmark.data.datasets import choose, resolve
    from benchmark.data.fingerprint import HashCache
    from benchmark.data.tasks import arrange
    from benchmark.study.study import Study

    check_data_root(data_root)
    cache = cache or data_root / ".cache"
    entries = registry.select(models)
    protocol = specs.fit(protocol, list(choose(wanted.names, data_root).values()))
    hashes = HashCache(cache / "hashes.json")
    tasks = arrange(
        lambda names: resolve(names, data_root, protocol, hashes, real_only=real_only),
        datasets=wanted.datasets,
        train=wanted.train,
        test=wanted.test,
        leave_one_out=wanted.leave_one_out,
    )
    largest = max(protocol.input.size_for(source.name) for task in tasks for source in task.sources)
    hardware = hardware.with_slots(workers=workers, per_gpu=per_gpu, input_size=largest)
    return Study(folder, protocol, entries, tasks, hardware, cache, keep_weights, execution=execution)


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=True)


@app.command("list")
def list_(
    topic: Annotated[Literal["models", "datasets", "protocols", "metrics"], typer.Argument(help="What to list.")],
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Everything that is known.")] = False,
) -> None:
    """List models, datasets, protocols or metrics."""
    from benchmark.cli import list as listing

    _console().print(listing.table(topic, verbose=verbose))


@app.command()
def explain(
    metric: Annotated[str, typer.Argument(help="Name of a metric, such as aji; `list metrics` has all.")],
) -> None:
    """Say what a metric means: its formula, its conventions and how it is taken over images."""
    from benchmark.cli import list as listing

    typer.echo(listing.explain(metric))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(__version__)
        raise typer.Exit


def main() -> None:
    """Run the command line; a user's mistake is one message and exit code 2."""
    telemetry.switch_off()
    logs.quiet_image_readers()
    try:
        refuse_hidden()
        app()
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # 128 + SIGINT, as shells have it
