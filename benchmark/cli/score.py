"""Defines the ``score`` verb: scores masks of any other tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from benchmark.cli.options import ProtocolName
from benchmark.utils.errors import UserError


def score(
    truth: Annotated[
        Path, typer.Option(help="Folder of true masks, in any form of a dataset's labels, or of label_LAYER/.")
    ],
    prediction: Annotated[
        Path, typer.Option(help="Folder of predicted masks of the same stems and sizes, or of mask_LAYER/.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for images.csv and summary.json.")],
    overlay: Annotated[
        Path | None,
        typer.Option(help="Folder for a PNG per image: red short, blue open, green false, yellow missed, pink wrong."),
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, shown below the overlay.")] = None,
    ignore: Annotated[Path | None, typer.Option(help="Folder of masks of pixels that count nowhere.")] = None,
    values: Annotated[
        Path | None, typer.Option(help="TOML file of a dataset; its [values] explain the values of the true masks.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Layers to count, such as via or track+via; default: those with folders of their own, or track."
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Predictions are gray; foreground has at least this share of white, 0 to 1.")
    ] = None,
    protocol: ProtocolName = "paper",
    border: Annotated[
        int | None, typer.Option(min=0, help="Border band without judged nets, pixels; default: the protocol's.")
    ] = None,
    min_area: Annotated[
        int | None,
        typer.Option(min=1, help="Least area of a counted predicted component, px²; default: the protocol's."),
    ] = None,
    group: Annotated[str | None, typer.Option(help="Pattern for stems; its (...) names the source frame.")] = None,
    cldice: Annotated[bool, typer.Option(help="Compute clDice, which takes most of the time.")] = True,
) -> None:
    """Score masks of any other tool and draw their faults. Counts and metrics are those of a run."""
    from benchmark.cli.progress import bar, open_console
    from benchmark.config import targets
    from benchmark.evaluation import score_folder, score_pairs

    if images is not None and overlay is None:
        raise UserError(f"--images {images}: only shown below an overlay; expected --overlay DIR beside it")
    if threshold is not None and not 0 < threshold < 1:
        raise UserError(f"--threshold {threshold}: expected a share between 0 and 1, such as 0.5")
    if target is None:
        target = score_pairs.target_in(truth, prediction, gray=threshold is not None)
    try:
        targets.checked(target)
    except ValueError as error:
        raise UserError(f"--target {target}: {error}") from error
    evaluation = score_pairs.rules_of(protocol, border_px=border, min_area_px=min_area, cldice=cldice)
    settings = score_pairs.ScoreSettings(
        *(truth, prediction, ignore, images, target, threshold, group, evaluation),
        values=score_pairs.values_of(values) if values else None,
    )
    pairs = score_pairs.pair_masks(settings)
    for flag, folder in (("out", out), ("overlay", overlay)):
        if folder is not None:
            score_folder.check_writable(flag, folder, settings)
    with bar("scoring") as progress:
        scored = score_folder.score(settings, pairs, progress)
    if overlay is not None:
        with bar("drawing") as progress:
            score_folder.write_overlays(settings, pairs, overlay, progress)
    written = score_folder.write(settings, scored, out)
    console = open_console()
    console.print(score_folder.table(settings, scored))
    for note in scored.notes[:1]:
        more = f" (and {len(scored.notes) - 1} more such)" if len(scored.notes) > 1 else ""
        console.print(f"note: {note}{more}")
    for path in (*written, *([overlay] if overlay else [])):
        console.print(path)
