"""Scores folders of masks of any tool against a ground truth."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from rich.table import Table

from benchmark import __version__, metrics
from benchmark.config.targets import is_via
from benchmark.data.formats.images import decode, percentile_levels, read_depth, read_image
from benchmark.data.packs import IGNORED
from benchmark.evaluation.counts import (
    Row,
    count_columns,
    count_layers,
    counts_csv,
    describe_net_limits,
    faults_in_words,
    reduce_counts,
    uncounted_faults,
)
from benchmark.evaluation.fault_overlay import overlay
from benchmark.evaluation.score_pairs import MaskPair, ScoreSettings, images_of, read_pair, sizes_differ
from benchmark.utils.errors import UserError
from benchmark.utils.files import check_folder, write_atomically
from benchmark.utils.words import counted

NAMED = 5  # images that a sentence names at most


@dataclass(frozen=True)
class Scored:
    """The result of a score.

    Attributes:
        rows: of the images by name, for each layer.
        not_counted: for each layer, the number of faults by kind that border and least area keep from counting.
        notes: for the user, about masks that were read in an unusual way.
    """

    rows: Mapping[str, list[Row]]
    not_counted: Mapping[str, Counter[str]]
    notes: list[str]

    def without_counted_pixel(self, layer: str) -> list[str]:
        """Return the names of images of which no pixel counts in a layer."""
        known = metrics.judged(count_columns(self.rows[layer]))
        return [str(row["image"]) for row, judged in zip(self.rows[layer], known, strict=True) if not judged]


def score(
    settings: ScoreSettings, pairs: Sequence[MaskPair], progress: Callable[[int, int], None] = lambda done, total: None
) -> Scored:
    """Read and count all pairs without writing.

    Args:
        settings: folders and rules.
        pairs: of :func:`~benchmark.evaluation.score_pairs.pair_masks`.
        progress: called with (images done, all images).

    Raises:
        UserError: a mask or image cannot be read or has another size than its truth, a mask has values that are not
            those of a mask, or an image is missing.
    """
    images, layers = images_of(pairs, settings.images), settings.layers

    def score_pair(pair: MaskPair) -> tuple[list[Row], list[Counter[str]], list[str]]:
        masks = read_pair(pair, settings)
        if images:  # overlays read the images later, but a fault must appear before anything is written
            pixels, shape = decode(images[pair.name]).pixels, masks.truths.shape[1:]
            if pixels.shape[:2] != shape:
                raise UserError(sizes_differ(images[pair.name], pixels.shape, pair.truth, shape))
        terms = count_layers(masks.truths, masks.predictions, layers, settings.evaluation)
        left_out = [
            uncounted_faults(truth, prediction, layer, settings.evaluation)
            for truth, prediction, layer in zip(masks.truths, masks.predictions, layers, strict=True)
        ]
        return [{"image": pair.name, "group": pair.group, **counts} for counts in terms], left_out, masks.notes

    rows: dict[str, list[Row]] = {layer: [] for layer in layers}
    not_counted = {layer: Counter[str]() for layer in layers}
    notes: list[str] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for done, (of_layers, left_out, notes_of_pair) in enumerate(pool.map(score_pair, pairs), start=1):
                for layer, row, faults in zip(layers, of_layers, left_out, strict=True):
                    rows[layer].append(row)
                    not_counted[layer].update(faults)
                notes += notes_of_pair
                progress(done, len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Scored(rows, not_counted, notes)


def check_writable(flag: str, folder: Path, settings: ScoreSettings) -> None:
    """Check before any work that a folder can be written and that no picture would replace a mask.

    Raises:
        UserError: the folder is a file, is read-only or is an input folder.
    """
    inputs = (settings.truth, settings.prediction, settings.ignore, settings.images)
    if folder.resolve() in {path.resolve() for path in inputs if path is not None}:
        raise UserError(f"--{flag} {folder}: one of the input folders; expected a folder of its own: name another")
    check_folder(f"--{flag}", folder)


def write(settings: ScoreSettings, scored: Scored, out: Path) -> list[Path]:
    """Write ``images.csv`` (as a run's ``images.<test>.csv``) and ``summary.json``; return their paths.

    Several layers have ``images.<layer>.csv`` each, and their figures lie below ``layers`` in the summary.
    """
    evaluation, several = settings.evaluation, len(settings.layers) > 1
    figures: dict[str, dict[str, Any]] = {
        layer: {
            "without_counted_pixel": scored.without_counted_pixel(layer),
            "not_counted": dict(scored.not_counted[layer]),
            "metrics": reduce_counts(rows),
        }
        for layer, rows in scored.rows.items()
    }
    summary = {
        "schema": 2 if several else 1,
        "version": __version__,
        "images": len(scored.rows[settings.layers[0]]),
        "target": settings.target,
        "border_px": evaluation.border_px,
        "min_area_px": evaluation.min_area_px,
        "threshold": settings.threshold,
        "values": str(settings.values) if settings.values else None,
        "reductions": dict(metrics.REDUCTIONS),
        **({"layers": figures} if several else figures[settings.target]),
        "notes": scored.notes,
    }
    files = {out / f"images{f'.{layer}' * several}.csv": counts_csv(rows) for layer, rows in scored.rows.items()} | {
        out / "summary.json": (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode()
    }
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def table(settings: ScoreSettings, scored: Scored) -> Table:
    """Return the figures as a terminal table, with columns for each layer and the conventions below."""
    several = len(settings.layers) > 1
    reduced = {
        f"{f'{layer} ' * several}{reduction}": values
        for layer, rows in scored.rows.items()
        for reduction, values in reduce_counts(rows).items()
    }
    figures = Table(box=None, pad_edge=False)
    figures.add_column("metric")
    for name in reduced:
        figures.add_column(name, justify="right")
    figures.add_column("better")
    for name, metric in metrics.METRICS.items():
        cells = [_figure(metric, values.get(name)) for values in reduced.values()]
        better = "higher" if metric.higher_is_better else "lower"
        if any(cells):
            figures.add_row(metric.display, *(cell or "-" for cell in cells), better)
    figures.caption, figures.caption_justify = "\n".join(_conventions(settings, scored)), "left"
    return figures


def _conventions(settings: ScoreSettings, scored: Scored) -> list[str]:
    """Return the lines below the table."""
    lines = []
    for layer, rows in scored.rows.items():
        unjudged = scored.without_counted_pixel(layer)
        lines.append(f"{counted(len(rows) - len(unjudged), 'image')}; target {layer}; benchmark {__version__}.")
        if unjudged:
            more = f" and {len(unjudged) - NAMED} more (summary.json)" if len(unjudged) > NAMED else ""
            lines.append(f"Without a counted pixel, and so without any value: {', '.join(unjudged[:NAMED])}{more}.")
    lines += [f"{reduction}: {meaning}." for reduction, meaning in metrics.REDUCTIONS.items()]
    of_nets = [left_out for layer, left_out in scored.not_counted.items() if not is_via(layer)]
    if of_nets:
        left_out = faults_in_words(sum(of_nets, Counter()))
        rule = describe_net_limits(settings.evaluation)
        lines.append(rule + f" Left out here by this rule: {left_out}." * bool(left_out))
    return lines


def _figure(metric: metrics.Metric, value: float | None) -> str:
    if value is None:
        return ""
    count = f"{value:.1f}".removesuffix(".0")  # a mean over images is seldom whole
    return {"fraction": f"{100 * value:.2f} %", "bits": f"{value:.4f} bits", "count": count}[metric.unit]


def write_overlays(
    settings: ScoreSettings,
    pairs: Sequence[MaskPair],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a PNG of ``fault_overlay`` for each scored pair, named as the prediction; several layers have folders."""
    images = images_of(pairs, settings.images)
    deep = [path for path in images.values() if read_depth(path) == 16]
    levels = percentile_levels(deep) if deep else None
    for done, pair in enumerate(pairs, start=1):
        masks = read_pair(pair, settings)
        image = read_image(images[pair.name], 1, levels)[..., 0] if images else None
        for layer, truth, prediction in zip(settings.layers, masks.truths, masks.predictions, strict=True):
            picture = overlay(truth == 1, prediction, truth == IGNORED, layer, settings.evaluation, image)
            content = io.BytesIO()
            Image.fromarray(picture).save(content, "png")
            own = folder / layer if len(settings.layers) > 1 else folder
            write_atomically(own / f"{pair.name}.png", content.getvalue())
        progress(done, len(pairs))
