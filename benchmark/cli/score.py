"""The ``score`` verb: masks of any other tool, scored as a run's own are."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from benchmark.data.formats.values import Values


def score(
    truth: Annotated[Path, typer.Option(help="Folder of true masks, in any form that a dataset's labels may have.")],
    prediction: Annotated[Path, typer.Option(help="Folder of predicted masks of the same stems and sizes.")],
    out: Annotated[Path, typer.Option(help="Folder for images.csv and summary.json.")],
    overlay: Annotated[
        Path | None,
        typer.Option(help="Folder for a PNG per image: red short, blue open, green false, yellow missed, pink wrong."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, to be seen below the overlay.")] = None,
    ignore: Annotated[Path | None, typer.Option(help="Folder of masks of pixels that count nowhere.")] = None,
    values: Annotated[
        Path | None, typer.Option(help="A dataset's TOML file whose [values] say what the true masks' values mean.")
    ] = None,
    target: Annotated[
        Literal["track", "metal", "via"], typer.Option(help="Layer that counts where masks hold several; via: vias.")
    ] = "track",
    threshold: Annotated[
        float | None, typer.Option(help="Predictions are gray, foreground from this share of white on, 0 to 1.")
    ] = None,
    border: Annotated[
        int | None, typer.Option(min=0, help="Band in which nets are not judged, pixels; default: 35.")
    ] = None,
    min_area: Annotated[
        int | None, typer.Option(min=1, help="Least area of a predicted component that counts, px²; default: 35.")
    ] = None,
    group: Annotated[str | None, typer.Option(help="Pattern on a stem whose (...) names the source frame.")] = None,
    cldice: Annotated[bool, typer.Option(help="Make skeletons for clDice, which take most of the time.")] = True,
) -> None:
    """Score masks that any other tool made: the same counts and figures as of a run, and pictures of the faults."""
    from benchmark.cli.progress import bar, open_console
    from benchmark.config.protocol import Evaluation
    from benchmark.evaluation import score_folder as scores

    if images is not None and overlay is None:
        raise UserError(f"--images {images}: only shown below an overlay; expected --overlay DIR beside it")
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold}: expected a share between 0 and 1, such as 0.5")
    default = Evaluation()
    evaluation = Evaluation(
        border_px=default.border_px if border is None else border,
        min_area_px=min_area or default.min_area_px,
        cldice=cldice,
    )
    settings = scores.Settings(
        *(truth, prediction, ignore, images, target, threshold, group, evaluation),
        values=_values(values) if values else None,
    )
    pairs = scores.find_pairs(settings)
    for flag, folder in (("out", out), ("overlay", overlay)):
        if folder is not None:
            scores.check_writable(flag, folder, settings)
    with bar("scoring") as progress:
        scored = scores.score(settings, pairs, progress)
    if overlay is not None:
        with bar("drawing") as progress:
            scores.write_overlays(settings, pairs, overlay, progress)
    written = scores.write(settings, scored, out)
    console = open_console()
    console.print(scores.table(settings, scored))
    for note in scored.notes[:1]:
        more = f" (and {len(scored.notes) - 1} more such)" if len(scored.notes) > 1 else ""
        console.print(f"note: {note}{more}")
    for path in (*written, *([overlay] if overlay else [])):
        console.print(path)


def _values(file: Path) -> Values:
    from benchmark.data import specs

    values = specs.load(file).values
    if values is None:
        raise UserError(f"--values {file}: no [values]; expected a table of background, foreground and ignore: add it")
    return values
