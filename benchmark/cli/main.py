"""Assembles the command line from its verbs and runs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from benchmark import __version__
from benchmark.cli import data
from benchmark.cli.bench import bench
from benchmark.cli.export import export
from benchmark.cli.help import Verb, VerbGroup, panelled
from benchmark.cli.list import explain, list_
from benchmark.cli.pack import pack, unpack
from benchmark.cli.predict import predict
from benchmark.cli.profile import profile
from benchmark.cli.report import diff, report
from benchmark.cli.run import PANELS, run
from benchmark.cli.score import score
from benchmark.cli.stages import stages
from benchmark.cli.status import status
from benchmark.config.own_packages import refuse_hidden
from benchmark.utils import logs, telemetry
from benchmark.utils.errors import UserError

app = typer.Typer(
    name="benchmark",
    help="Benchmark EAL-ICNet and ten other networks on integrated-circuit images; write tables and plots.",
    cls=VerbGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(data.app, name="data")
app.command(cls=panelled(PANELS))(run)
for verb in (status, report, diff, profile, bench, score, predict, stages, export, pack, unpack):
    app.command(cls=Verb)(verb)
app.command("list", cls=Verb)(list_)
app.command(cls=Verb)(explain)


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
        app(prog_name="benchmark")  # the name that shells complete, also after `python -m`
    except UserError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        raise SystemExit(130) from None  # 128 + SIGINT, as shells have it
