"""Defines the ``export`` verb: writes trained networks as ONNX files or saved programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.cli.options import (
    FinishedStudy,
    LayerNames,
    Models,
    Repeat,
    Results,
    Threads,
    TrainedAt,
    TrainedOn,
    Weights,
)
from benchmark.devices.hardware_slots import cores
from benchmark.utils.errors import UserError, require
from benchmark.utils.files import check_folder
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from benchmark.records.export_record import Check, ExportRecord


def export(
    models: Models,
    study: FinishedStudy = None,
    weights: Weights = None,
    trained_at: TrainedAt = None,
    layers: LayerNames = None,
    format_: Annotated[
        Literal["onnx", "torch"],
        typer.Option("--format", help="onnx, or torch: a program saved by torch.export (.pt2)."),
    ] = "onnx",
    results: Results = Path("results"),
    dataset: TrainedOn = None,
    repeat: Repeat = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the files; default: RESULTS/STUDY/export, or beside --weights.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(help="Image for the comparison; default: a stand-in's first test image, drawn again.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Write trained networks as ONNX files or torch programs. Each is compared with torch."""
    packages = ("onnx", "onnxscript", "onnxruntime") if format_ == "onnx" else ()
    require(*packages, flag=f"--format {format_}", extra="export")

    from benchmark.cli.progress import open_console
    from benchmark.data.formats.images import OWN_LEVELS, read_depth
    from benchmark.predict.export import export_network
    from benchmark.predict.export.trial_image import picture
    from benchmark.records.chosen_networks import chosen_networks

    folder, networks = chosen_networks(
        results, models, study=study, weights=weights, size=trained_at, layers=layers, train=dataset, repeat=repeat
    )
    target = out or folder / "export"
    check_folder("--out", target)
    sets = {trained.train: trained for trained in networks}
    pictures = {train: picture(folder, trained, image) for train, trained in sets.items()}
    console = open_console()
    done: list[ExportRecord] = []
    for number, trained in enumerate(networks, start=1):
        image_seen = pictures[trained.train]
        request = export_network.Request(
            "" if weights else folder.name, format_, target, image_seen, threads or cores(), export_network.TIMING
        )
        try:
            file, record = export_network.export(trained, request)
        except (export_network.ExportError, UserError) as error:
            outcome = f"failed: {error}"
        else:
            done.append(record)
            outcome = f"{dynamic(record)} -> {file}"
        console.print(f"[{number}/{len(networks)}] {trained.label}: {outcome}")
    if done:
        for shown in (parity(done), cost(done)):
            console.print(shown)
        notes = [OWN_LEVELS] if image is not None and read_depth(image) == 16 else []
        notes += [note for record in done for note in record.notes]
        for record in done:
            texts = (*record.timing.hindered, *record.timing.warnings)
            notes += [f"{record.metadata['model']}: {text}" for text in texts]
        for note in dict.fromkeys(notes):
            console.print(f"note: {note}")
    raise typer.Exit(1 if len(done) < len(networks) else 0)


def dynamic(record: ExportRecord) -> str:
    """Say which axes of the images vary."""
    why = f": {record.narrowed_because}" if record.narrowed_because else ""
    only = " only" if record.dynamic == ("batch",) else ""
    return f"dynamic: {', '.join(record.dynamic)}{only} ({record.metadata['size']}{why})"


def parity(records: Sequence[ExportRecord]) -> Table:
    """Return a terminal table of how far each file is from torch, with its conventions below."""
    from benchmark.records.export_record import RANDOM

    first = records[0]
    rows = []
    for record in records:
        random, image = ([check for check in record.checks if (check.input == RANDOM) is own] for own in (True, False))
        rows.append((record.metadata["model"], *_parity(random), *_parity(image)))
    names = dict.fromkeys(check.input for record in records for check in record.checks if check.input != RANDOM)
    opset = f", opset {first.opset}" if first.opset is not None else ""
    lines = [
        f"Format {first.format}{opset}: `image`, float32 in [0, 1], to `logits`; probability = sigmoid(logits).",
        "difference: the largest of two logits, file against torch, of the largest |logit| there.",
        f"Files are written that pass: {first.tolerance}.",
        f"masks alike: share of the pixels, at a probability of {first.metadata['threshold'].split()[0]}.",
        "random: all sizes and batches that <file>.json lists, together."
        + (f" image: {', '.join(names)}, its centre, of the training's size." if names else ""),
    ]
    return _table(("random: difference", "masks alike", "image: difference", "masks alike"), rows, lines)


def cost(records: Sequence[ExportRecord]) -> Table:
    """Return a terminal table of size and latency of each file, torch's beside them, with its conventions below."""
    from benchmark.report.tables.render import HINDERED

    rows = []
    for record in records:
        timing, mark = record.timing, HINDERED if record.timing.hindered else ""
        megabytes = [f"{size / 1e6:.2f}" for size in (record.size_bytes, record.weights_bytes)]
        values = [f"{value:.2f}{mark}" for value in (timing.exported.p50_ms, timing.torch.p50_ms, timing.ratio)]
        rows.append((record.metadata["model"], *megabytes, *values))
    sides = dict.fromkeys(f"{record.timing.height}x{record.timing.width}" for record in records)
    count = min(len(record.timing.exported.raw_ms) for record in records)
    lines = [
        "MB: 10^6 bytes; torch's are its weights alone.",
        f"ms: median of at least {count} forwards of one image of {', '.join(sides)} on the CPU, file and torch in "
        f"turn, {counted(records[0].timing.threads, 'thread')} each. ratio: file / torch.",
    ]
    if any(record.timing.hindered for record in records):
        lines.append(f"{HINDERED}: taken while something else had the processor, as the notes say.")
    return _table(("file MB", "torch MB", "file ms", "torch ms", "ratio"), rows, lines)


def _table(columns: Sequence[str], rows: Sequence[tuple[str, ...]], lines: Sequence[str]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    table.add_column("model", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    table.caption, table.caption_justify = Text("\n".join(lines)), "left"
    return table


def _parity(checks: Sequence[Check]) -> tuple[str, str]:
    """Return the largest difference with that input's largest logit, and the share of alike pixels in all masks."""
    if not checks:
        return "-", "-"
    worst = max(checks, key=lambda check: check.max_difference)
    alike = 1 - sum(check.differing_pixels for check in checks) / sum(check.pixels for check in checks)
    return f"{worst.max_difference:.1e} of {worst.max_logit:.3g}", f"{100 * alike:.4f} %"
