"""Scoring masks that any tool made against a ground truth: counts, figures and pictures of the faults."""

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
from rich.table import Table

from benchmark import __version__, metrics
from benchmark.config.protocol import Evaluation
from benchmark.data.formats.all_formats import format_of, label_suffixes, read_label
from benchmark.data.formats.images import IMAGE_SUFFIXES, decode, percentile_levels, read_depth, read_image, sized
from benchmark.data.formats.label_format import Legend
from benchmark.data.formats.masks import gray_of, read_ignore
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED
from benchmark.data.pairs import Pair, plain_stem, refuse_orphans, scan_masks
from benchmark.data.specs import Target, check_group
from benchmark.evaluation import counts as scoring
from benchmark.evaluation.fault_overlay import Mask, overlay
from benchmark.utils.errors import UserError
from benchmark.utils.files import check_folder, no_folder, write_atomically
from benchmark.utils.names import comparable

NAMED = 5  # images in a sentence


@dataclass(frozen=True)
class ScoreSettings:
    """What is scored and how.

    Attributes:
        truth: folder of masks, in any form that a dataset's labels may have.
        prediction: folder of masks of the same forms, or of gray values where there is a threshold.
        ignore: folder of masks of pixels that count nowhere.
        images: folder of the images, for overlays only.
        target: the layer that counts in masks that tell layers apart; vias are counted as such.
        threshold: predictions are gray, and foreground from this share of the brightest possible value on.
        group: pattern on a prediction's stem whose first group names the source frame.
        evaluation: border, least area, whether skeletons are made.
        values: what the values of true masks mean, where they are not the usual ones.
    """

    truth: Path
    prediction: Path
    ignore: Path | None = None
    images: Path | None = None
    target: Target = "track"
    threshold: float | None = None
    group: str | None = None
    evaluation: Evaluation = field(default_factory=lambda: Evaluation(cldice=True))
    values: Values | None = None


@dataclass(frozen=True)
class Scored:
    """The result.

    Attributes:
        rows: one per image, by name.
        not_counted: faults that the border and the least area keep from counting, by kind.
        notes: what a user should know about how masks were read.
    """

    rows: list[scoring.Row]
    not_counted: Mapping[str, int]
    notes: list[str]


@dataclass(frozen=True, eq=False)
class Masks:
    """What was read of one pair, each ``(H, W)``, and what a user should know about it."""

    truth: Mask
    prediction: Mask
    ignore: Mask
    notes: list[str]


def find_pairs(settings: ScoreSettings) -> list[Pair]:
    """Pair predictions with truths by their stems, which may end in ``_mask`` or ``_``.

    Raises:
        UserError: a folder that is missing or holds no masks, a mask without partner, two of one stem, a stem that the
            group's pattern does not match; names the flag or the file.
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
    found = scan_masks(settings.prediction, settings.truth, settings.ignore, group=settings.group)
    for flag, count in (("prediction", found.images), ("truth", found.labels)):
        if not count:
            raise UserError(
                f"--{flag} {getattr(settings, flag)}: no masks; expected files that end in "
                f"{', '.join(sorted(label_suffixes()))}"
            )
    for fault in found.faults:
        raise UserError(fault)
    for path in found.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(found.unlabelled, "prediction", "truth")
    refuse_orphans(found.unpaired, "truth", "prediction")
    refuse_orphans(found.unpaired_ignores, "ignore mask", "prediction")
    for path in found.ungrouped:
        raise UserError(f"{path}: the name does not match --group {settings.group!r}; correct the pattern")
    return found.pairs


def score(
    settings: ScoreSettings, pairs: list[Pair], progress: Callable[[int, int], None] = lambda done, total: None
) -> Scored:
    """Read and count all pairs; nothing is written.

    Args:
        settings: how.
        pairs: made by :func:`find_pairs`.
        progress: called with (images done, all images).

    Raises:
        UserError: a mask that cannot be read, has other values than a mask's, or another size than its truth; an image
            that is missing, cannot be read or has another size.
    """
    images = _images_of(pairs, settings.images)

    def one(pair: Pair) -> tuple[scoring.Row, Counter[str], list[str]]:
        masks = _read(pair, settings)
        if images:  # read again for its picture, but a fault must be known before anything is written
            pixels = decode(images[pair.name]).pixels
            if pixels.shape[:2] != masks.truth.shape:
                raise UserError(_sizes(images[pair.name], pixels.shape, f"its truth {pair.label}", masks.truth.shape))
        packed = masks.truth.astype(np.uint8)
        packed[masks.ignore] = IGNORED
        counts = scoring.count(packed, masks.prediction, settings.target, settings.evaluation)
        left_out = scoring.not_counted(packed, masks.prediction, settings.target, settings.evaluation)
        return {"image": pair.name, "group": pair.group, **counts}, left_out, masks.notes

    rows: list[scoring.Row] = []
    not_counted: Counter[str] = Counter()
    notes: list[str] = []
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        try:
            for row, left_out, found in pool.map(one, pairs):
                rows.append(row)
                not_counted.update(left_out)
                notes += found
                progress(len(rows), len(pairs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return Scored(rows, not_counted, notes)


def check_writable(flag: str, folder: Path, settings: ScoreSettings) -> None:
    """Refuse a place before any work where nothing could be written, or where a picture would replace a mask.

    Raises:
        UserError: the place is a file, is read-only or is one of the input folders.
    """
    inputs = (settings.truth, settings.prediction, settings.ignore, settings.images)
    if folder.resolve() in {place.resolve() for place in inputs if place is not None}:
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
        "metrics": scoring.summarise(scored.rows),
        "notes": scored.notes,
    }
    files = {
        out / "images.csv": scoring.to_csv(scored.rows),
        out / "summary.json": (json.dumps(summary, indent=1, ensure_ascii=False) + "\n").encode(),
    }
    for path, content in files.items():
        write_atomically(path, content)
    return list(files)


def table(settings: ScoreSettings, scored: Scored) -> Table:
    """Return the figures as a terminal table with its conventions below."""
    reduced = scoring.summarise(scored.rows)
    made = Table(box=None, pad_edge=False)
    made.add_column("metric")
    for reduction in reduced:
        made.add_column(reduction, justify="right")
    made.add_column("better")
    for name, metric in metrics.METRICS.items():
        cells = [_figure(metric, values.get(name)) for values in reduced.values()]
        if any(cells):
            made.add_row(
                metric.display, *(cell or "-" for cell in cells), "higher" if metric.higher_is_better else "lower"
            )
    limits, void = settings.evaluation, _not_judged(scored)
    count = len(scored.rows) - len(void)
    lines = [f"{count} image{'s' * (count != 1)}; target {settings.target}; benchmark {__version__}."]
    if void:
        more = f" and {len(void) - NAMED} more (summary.json)" if len(void) > NAMED else ""
        lines.append(f"Without a counted pixel, and so without any value: {', '.join(void[:NAMED])}{more}.")
    lines += [f"{reduction}: {what}." for reduction, what in metrics.REDUCTIONS.items()]
    if settings.target != "via":
        left_out = scoring.in_words(scored.not_counted)
        lines.append(scoring.limits_of_nets(limits) + f" By this rule, {left_out} are left out here." * bool(left_out))
    made.caption, made.caption_justify = "\n".join(lines), "left"
    return made


def _not_judged(scored: Scored) -> list[str]:
    known = metrics.judged(scoring.columns_of(scored.rows))
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
    """Write one PNG per pair that :func:`score` has read, named as the prediction, coloured as ``fault_overlay``."""
    images = _images_of(pairs, settings.images)
    deep = [path for path in images.values() if read_depth(path) == 16]
    levels = percentile_levels(deep) if deep else None
    for done, pair in enumerate(pairs, start=1):
        masks = _read(pair, settings)
        image = read_image(images[pair.name], 1, levels)[..., 0] if images else None
        content = io.BytesIO()
        picture = overlay(masks.truth, masks.prediction, masks.ignore, settings.target, settings.evaluation, image)
        Image.fromarray(picture).save(content, "png")
        write_atomically(folder / f"{pair.name}.png", content.getvalue())
        progress(done, len(pairs))


def _read(pair: Pair, settings: ScoreSettings) -> Masks:
    shape, found = (format_of(mask).size(mask) for mask in (pair.label, pair.image))
    if found != shape:
        raise UserError(_sizes(pair.image, found, f"its truth {pair.label}", shape))
    truth = read_label(pair.label, settings.target, shape, Legend(values=settings.values))
    notes = [f"{pair.label}: {truth.note}"] if truth.note else []
    if settings.threshold is not None:
        prediction = _thresholded(pair.image, settings.threshold)
    else:
        label = read_label(pair.image, settings.target, shape)
        prediction = label.mask
        notes += [f"{pair.image}: {label.note}"] if label.note else []
    ignore = read_ignore(pair.ignore, shape) if pair.ignore else np.zeros(shape, np.bool_)
    if truth.ignored is not None:
        ignore = ignore | truth.ignored
    return Masks(truth.mask, prediction, ignore, notes)


def _thresholded(path: Path, threshold: float) -> Mask:
    """Read a map of probabilities: gray, 0 for none and the format's largest value for one."""
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
    most = {np.bool_: 1, np.uint8: 2**8 - 1, np.uint16: 2**16 - 1}[pixels.dtype.type]
    foreground: Mask = pixels >= threshold * most
    return foreground


def _sizes(path: Path, found: tuple[int, ...], what: str, expected: tuple[int, ...]) -> str:
    return (
        f"{path}: {sized(found)} pixels, but {what} has {sized(expected)}; "
        "expected the same size: export it at that size"
    )


def _images_of(pairs: Iterable[Pair], folder: Path | None) -> dict[str, Path]:
    """Return the image of each pair by its name, without ``_mask`` where no image is called so."""
    if folder is None:
        return {}
    found = {
        comparable(path.stem): path
        for path in sorted(folder.iterdir())
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    }
    images = {}
    for pair in pairs:
        name = comparable(pair.name)
        path = found.get(name, found.get(plain_stem(name)))
        if path is None:
            raise UserError(f"--images {folder}: no image {pair.name!r}; expected one for each prediction: add it")
        images[pair.name] = path
    return images
