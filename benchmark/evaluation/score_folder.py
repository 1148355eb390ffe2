"""Scores folders of masks of any tool against a ground truth."""

from __future__ import annotations

import io
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import ValidationError
from rich.table import Table

from benchmark import __version__, metrics
from benchmark.config.protocol import Evaluation, load_protocol
from benchmark.data.formats.all_formats import format_of, label_suffixes, read_label
from benchmark.data.formats.images import (
    IMAGE_SUFFIXES,
    Pixels,
    decode,
    percentile_levels,
    read_depth,
    read_image,
    sized,
)
from benchmark.data.formats.label_format import Legend
from benchmark.data.formats.masks import gray_of, read_ignore
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED
from benchmark.data.pairs import Pair, plain_stem, refuse_orphans, scan_masks
from benchmark.data.specs import Layer, check_group, load
from benchmark.evaluation.counts import (
    Row,
    count_columns,
    count_terms,
    counts_csv,
    describe_net_limits,
    faults_in_words,
    reduce_counts,
    uncounted_faults,
)
from benchmark.evaluation.fault_overlay import Mask, overlay
from benchmark.utils.errors import UserError
from benchmark.utils.files import check_folder, no_folder, write_atomically
from benchmark.utils.names import comparable
from benchmark.utils.words import counted

NAMED = 5  # images that a sentence names at most


@dataclass(frozen=True)
class ScoreSettings:
    """The folders and rules of a score.

    Attributes:
        truth: folder of masks in any form of a dataset's labels.
        prediction: folder of masks in the same forms, or of gray values with a threshold.
        ignore: folder of masks of pixels that do not count.
        images: folder of the images, for overlays only.
        target: the scored layer of masks with several layers; vias have their own counts.
        threshold: gray predictions are foreground from this share of the brightest possible value on.
        group: pattern on a prediction's stem; its first group is the source frame.
        evaluation: border, least area, skeletons, see :func:`rules_of`.
        values: meaning of the values of true masks, if unusual.
    """

    truth: Path
    prediction: Path
    ignore: Path | None = None
    images: Path | None = None
    target: Layer = "track"
    threshold: float | None = None
    group: str | None = None
    evaluation: Evaluation = field(default_factory=lambda: Evaluation(cldice=True))
    values: Values | None = None


@dataclass(frozen=True)
class Scored:
    """The result of a score.

    Attributes:
        rows: of the images, by name.
        not_counted: number of faults by kind that border and least area keep from counting.
        notes: for the user, about masks that were read in an unusual way.
    """

    rows: list[Row]
    not_counted: Mapping[str, int]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of one pair, each ``(H, W)``, and notes about their reading."""

    truth: Mask
    prediction: Mask
    ignore: Mask
    notes: list[str]


def rules_of(protocol: str | Path, **changes: int | bool | None) -> Evaluation:
    """Return the rules by which a protocol counts, with other values of some; ``None`` changes nothing.

    Raises:
        UserError: there is no such protocol, or a value is none that it takes.
    """
    rules = load_protocol(protocol).evaluation.model_dump()
    try:
        return Evaluation.model_validate(rules | {name: value for name, value in changes.items() if value is not None})
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        expected = problem["msg"].removeprefix("Input should be ")
        raise UserError(f"{problem['loc'][0]}: found {problem['input']!r}; expected {expected}") from error


def values_of(file: Path) -> Values:
    """Read what the values of masks mean from a dataset's TOML file.

    Raises:
        UserError: the file cannot be read or says nothing of values.
    """
    values = load(file).values
    if values is None:
        raise UserError(f"--values {file}: no [values]; expected a table of background, foreground and ignore: add it")
    return values


def pair_masks(settings: ScoreSettings) -> list[Pair]:
    """Pair predictions with truths by their stems, which may end in ``_mask`` or ``_``.

    Raises:
        UserError: a folder is missing or holds no masks, a mask has no partner, two masks have one stem, or a stem does
            not match the group's pattern.
    """
    for flag in ("truth", "prediction", "ignore", "images"):
        folder = getattr(settings, flag)
        if folder is not None and not folder.is_dir():
            raise UserError(f"--{flag} {folder}: {no_folder(folder)}; expected one that holds them: correct the path")
    if settings.group is not None:
        try:
            check_group(settings.group)
        except ValueError as error:
            raise UserError(f"--group {settings.group!r}: {error}") from error
    scan = scan_masks(settings.prediction, settings.truth, settings.ignore, group=settings.group)
    for flag, count in (("prediction", scan.images), ("truth", scan.labels)):
        if not count:
            raise UserError(
                f"--{flag} {getattr(settings, flag)}: no masks; expected files that end in "
                f"{', '.join(sorted(label_suffixes()))}"
            )
    for fault in scan.faults:
        raise UserError(fault)
    for path in scan.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(scan.unlabelled, "prediction", "truth")
    refuse_orphans(scan.unpaired, "truth", "prediction")
    refuse_orphans(scan.unpaired_ignores, "ignore mask", "prediction")
    if settings.ignore and not any(pair.ignore for pair in scan.pairs):
        raise UserError(
            f"--ignore {settings.ignore}: no masks; expected some of the predictions' stems: correct the path"
        )
    for path in scan.ungrouped:
        raise UserError(f"{path}: the name does not match --group {settings.group!r}; correct the pattern")
    return scan.pairs


def score(
    settings: ScoreSettings, pairs: list[Pair], progress: Callable[[int, int], None] = lambda done, total: None
) -> Scored:
    """Read and count all pairs without writing.

    Args:
        settings: folders and rules.
        pairs: of :func:`pair_masks`.
        progress: called with (images done, all images).

    Raises:
        UserError: a mask or image cannot be read or has another size than its truth, a mask has values that are not
            those of a mask, or an image is missing.
    """
    images = _images_of(pairs, settings.images)

    def score_pair(pair: Pair) -> tuple[Row, Counter[str], list[str]]:
        masks = _read(pair, settings)
        if images:  # overlays read the images later, but a fault must appear before anything is written
            pixels = decode(images[pair.name]).pixels
            if pixels.shape[:2] != masks.truth.shape:
                raise UserError(_sizes(images[pair.name], pixels.shape, pair.label, masks.truth.shape))
        packed = masks.truth.astype(np.uint8)
        packed[masks.ignore] = IGNORED
        arguments = packed, masks.prediction, settings.target, settings.evaluation
        row: Row = {"image": pair.name, "group": pair.group, **count_terms(*arguments)}
        return row, uncounted_faults(*arguments), masks.notes

    rows: list[Row] = []
    not_counted: Counter[str] = Counter()
    notes: list[str] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for row, left_out, notes_of_pair in pool.map(score_pair, pairs):
                rows.append(row)
                not_counted.update(left_out)
                notes += notes_of_pair
                progress(len(rows), len(pairs))
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
    """Write ``images.csv`` (as a run's ``images.<test>.csv``) and ``summary.json``; return their paths."""
    evaluation = settings.evaluation
    summary = {
        "schema": 1,
        "version": __version__,
        "images": len(scored.rows),
        "without_counted_pixel": _not_judged(scored),
        "target": settings.target,
        "border_px": evaluation.border_px,
        "min_area_px": evaluation.min_area_px,
        "threshold": settings.threshold,
        "values": str(settings.values) if settings.values else None,
        "reductions": dict(metrics.REDUCTIONS),
        "not_counted": dict(scored.not_counted),
        "metrics": reduce_counts(scored.rows),
        "notes": scored.notes,
    }
    files = {
        out / "images.csv": counts_csv(scored.rows),
        out / "summary.json": (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def table(settings: ScoreSettings, scored: Scored) -> Table:
    """Return the figures as a terminal table with its conventions below."""
    reduced = reduce_counts(scored.rows)
    figures = Table(box=None, pad_edge=False)
    figures.add_column("metric")
    for reduction in reduced:
        figures.add_column(reduction, justify="right")
    figures.add_column("better")
    for name, metric in metrics.METRICS.items():
        cells = [_figure(metric, values.get(name)) for values in reduced.values()]
        better = "higher" if metric.higher_is_better else "lower"
        if any(cells):
            figures.add_row(metric.display, *(cell or "-" for cell in cells), better)
    limits, unjudged = settings.evaluation, _not_judged(scored)
    count = len(scored.rows) - len(unjudged)
    lines = [f"{counted(count, 'image')}; target {settings.target}; benchmark {__version__}."]
    if unjudged:
        more = f" and {len(unjudged) - NAMED} more (summary.json)" if len(unjudged) > NAMED else ""
        lines.append(f"Without a counted pixel, and so without any value: {', '.join(unjudged[:NAMED])}{more}.")
    lines += [f"{reduction}: {meaning}." for reduction, meaning in metrics.REDUCTIONS.items()]
    if settings.target != "via":
        left_out = faults_in_words(scored.not_counted)
        lines.append(describe_net_limits(limits) + f" By this rule, {left_out} are left out here." * bool(left_out))
    figures.caption, figures.caption_justify = "\n".join(lines), "left"
    return figures


def _not_judged(scored: Scored) -> list[str]:
    known = metrics.judged(count_columns(scored.rows))
    return [str(row["image"]) for row, judged in zip(scored.rows, known, strict=True) if not judged]


def _figure(metric: metrics.Metric, value: float | None) -> str:
    if value is None:
        return ""
    return {"fraction": f"{100 * value:.2f} %", "bits": f"{value:.4f} bits", "count": f"{value:.0f}"}[metric.unit]


def write_overlays(
    settings: ScoreSettings,
    pairs: list[Pair],
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write a PNG of ``fault_overlay`` for each scored pair, named as the prediction."""
    images = _images_of(pairs, settings.images)
    deep = [path for path in images.values() if read_depth(path) == 16]
    levels = percentile_levels(deep) if deep else None
    for done, pair in enumerate(pairs, start=1):
        masks = _read(pair, settings)
        image = read_image(images[pair.name], 1, levels)[..., 0] if images else None
        picture = overlay(masks.truth, masks.prediction, masks.ignore, settings.target, settings.evaluation, image)
        content = io.BytesIO()
        Image.fromarray(picture).save(content, "png")
        write_atomically(folder / f"{pair.name}.png", content.getvalue())
        progress(done, len(pairs))


def _read(pair: Pair, settings: ScoreSettings) -> Masks:
    shape, predicted = (format_of(mask).size(mask) for mask in (pair.label, pair.image))
    if predicted != shape:
        raise UserError(_sizes(pair.image, predicted, pair.label, shape))
    truth = read_label(pair.label, settings.target, shape, Legend(values=settings.values))
    notes = [f"{pair.label}: {truth.note}"] if truth.note else []
    if settings.threshold is not None:
        prediction = thresholded(pair.image, settings.threshold)
    else:
        label = read_label(pair.image, settings.target, shape)
        prediction = label.mask
        notes += [f"{pair.image}: {label.note}"] if label.note else []
    ignore = read_ignore(pair.ignore, shape) if pair.ignore else np.zeros(shape, np.bool_)
    if truth.ignored is not None:
        ignore = ignore | truth.ignored
    return Masks(truth.mask, prediction, ignore, notes)


def thresholded(path: Path, threshold: float) -> Mask:
    """Read a gray map of probabilities, from 0 to the format's largest value, as a mask.

    Raises:
        UserError: the file cannot be read, or holds shapes, colours or transparent pixels.
    """
    if format_of(path).is_drawn:
        raise UserError(f"{path}: shapes; expected gray values with --threshold: leave the flag out")
    picture = decode(path)
    pixels = gray_of(picture.pixels)
    if picture.alpha is not None:
        raise UserError(
            f"{path}: transparent pixels; expected gray values alone with --threshold: save it without alpha"
        )
    if pixels is None or picture.palette is not None:
        raise UserError(f"{path}: colours; expected gray values with --threshold: leave the flag out or convert it")
    return bright(pixels, threshold)


def bright(pixels: Pixels, threshold: float) -> Mask:
    """Return which pixels of bool, uint8 or uint16 have at least a share of the largest possible value."""
    largest = {np.bool_: 1, np.uint8: 2**8 - 1, np.uint16: 2**16 - 1}[pixels.dtype.type]
    foreground: Mask = pixels >= threshold * largest
    return foreground


def _sizes(path: Path, size: tuple[int, ...], truth: Path, expected: tuple[int, ...]) -> str:
    return (
        f"{path}: {sized(size)} pixels, but its truth {truth} has {sized(expected)}; "
        "expected the same size: export it at that size"
    )


def _images_of(pairs: Iterable[Pair], folder: Path | None) -> dict[str, Path]:
    """Return the image of each pair by the pair's name, or else by the name without ``_mask``."""
    if folder is None:
        return {}
    files = {
        comparable(path.stem): path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }
    images = {}
    for pair in pairs:
        name = comparable(pair.name)
        path = files.get(name, files.get(plain_stem(name)))
        if path is None:
            raise UserError(f"--images {folder}: no image {pair.name!r}; expected one for each prediction: add it")
        images[pair.name] = path
    return images
