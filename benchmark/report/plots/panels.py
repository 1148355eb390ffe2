"""Builds panels: all results on the hardest, median and easiest kept images."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmark import metrics
from benchmark.config.protocol import Evaluation
from benchmark.data.formats.images import UInt8Array, to_channels
from benchmark.data.packs import IGNORED
from benchmark.data.specs import Target
from benchmark.evaluation.counts import count_terms, describe_net_limits, faults_in_words, uncounted_faults
from benchmark.evaluation.fault_overlay import (
    COLOURS,
    IGNORED_PIXELS,
    ONLY_PREDICTED,
    ONLY_TRUE,
    PREDICTED,
    Mask,
    overlay,
)
from benchmark.evaluation.kept_images import Images, Predictions, read_images, read_predictions
from benchmark.evaluation.reference_methods import otsu
from benchmark.records.store import Store
from benchmark.report.plots import plot_style, sheet
from benchmark.report.plots.sheet import Sheet, SheetPicture
from benchmark.report.read import Scores, StudyResults
from benchmark.report.tables import accuracy_table, conventions
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.render import Block, Row
from benchmark.utils.errors import UserError

RANKS = ("hardest", "median", "easiest")
KINDS = ("pdf", "png")
LINE_CHARACTERS = 32  # of a line above a picture, without what is shortened

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Result:
    """What a network made of the images, in its first repeat that kept it."""

    row: Row
    repeat: int
    predictions: Predictions
    scores: Scores

    def counts(self, name: str) -> dict[str, int]:
        """Return the integer terms of an image."""
        index = self.scores.images.index(name)
        return {column: int(values[index]) for column, values in self.scores.columns.items()}


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An image that may be shown."""

    name: str
    pixels: UInt8Array
    truth: Mask
    ignore: Mask
    mean_miou: float


def build(folder: Path, study: StudyResults, blocks: Sequence[Block], tell: Tell) -> dict[str, bytes]:
    """Draw up to three panels per block of the accuracy table.

    Args:
        folder: ``results/<study>``.
        study: as read from there.
        blocks: of the accuracy table.
        tell: called with a sentence for each reason why something is left out.

    Returns:
        Content by path below ``report/``: ``panels/<block>.<rank>.{pdf,png}``.
    """
    files: dict[str, bytes] = {}
    for stem, content in sheets(folder, study, blocks, tell):
        figure = sheet.draw(content)
        files |= {f"panels/{stem}.{kind}": plot_style.save(figure, kind) for kind in KINDS}
    return files


def sheets(folder: Path, study: StudyResults, blocks: Sequence[Block], tell: Tell) -> Iterator[tuple[str, Sheet]]:
    """Yield the panels of :func:`build` as they are before they are drawn: ``<block>.<rank>`` and content."""
    if study.protocol is None or not study.protocol.report.panels:
        return
    without: list[str] = []
    for block in blocks:
        found = contest(study, block, "miou", "image")
        if not any(found.scores.values()):
            continue  # no run has finished
        file = Store(folder).images_file(str(found.facts["dataset"]))
        if not file.is_file():
            without.append(block.key)
            continue
        try:
            images = read_images(file)
        except UserError as error:
            tell(f"{error}; no panels of {block.key}")
            continue
        yield from _sheets(Store(folder), study.protocol.evaluation, found, images, tell)
    if without:
        tell(f"{folder}: no panels of {', '.join(without)}, since no test images were kept: made before panels were")


def is_panel(name: str) -> bool:
    """Tell whether a file's name is one that :func:`build` gives."""
    return name.endswith(tuple(f".{rank}.{kind}" for rank in RANKS for kind in KINDS))


def _sheets(
    store: Store, limits: Evaluation, found: Contest, images: Images, tell: Tell
) -> Iterator[tuple[str, Sheet]]:
    results = _results(store, found, images, tell)
    candidates = _by_difficulty(images, results) if results else []
    if not candidates:
        tell(f"{store.folder}: no panels of {found.key}, since no predictions of its test images were kept")
        return
    ranks: dict[int, str] = {}  # of one or two candidates, none is shown twice
    for rank, position in zip(RANKS, (0, (len(candidates) - 1) // 2, len(candidates) - 1), strict=True):
        ranks.setdefault(position, rank)
    for position, rank in ranks.items():
        yield f"{found.key}.{rank}", _sheet(found, limits, results, candidates, position, rank)


def _results(store: Store, found: Contest, images: Images, tell: Tell) -> list[_Result]:
    """Read what the networks made of the images; files that are broken, or not of the counts beside them, are told."""
    results = []
    train, test = str(found.facts["train"]).split("+"), str(found.facts["dataset"])
    for row in found.rows:
        for repeat, scores in sorted(found.scores[row.key].items()):
            file = store.predictions_file(train, row.key, repeat, test)
            if not file.is_file():
                continue
            try:
                result = _Result(row, repeat, read_predictions(file), scores)
            except UserError as error:
                tell(f"{error}; left out of the panels")
                continue
            if not _agrees(result, images):
                tell(f"{file}: does not agree with images.{test}.csv beside it; left out of the panels")
                continue
            results.append(result)
            break
    return results


def _agrees(result: _Result, images: Images) -> bool:
    """Tell whether the kept predictions are those that were counted."""
    for name, mask in zip(images.names, images.masks, strict=True):
        if name not in result.predictions.names or name not in result.scores.images:
            continue
        prediction, counts = result.predictions.of(name), result.counts(name)
        if prediction.shape != mask.shape:
            return False
        sums = (int((prediction & (mask == value)).sum()) for value in (1, 0))
        if (counts["tp"], counts["fp"]) != tuple(sums) or counts["tp"] + counts["fn"] != int((mask == 1).sum()):
            return False
    return True


def _by_difficulty(images: Images, results: Sequence[_Result]) -> list[_Candidate]:
    """Return the images of which all networks' predictions were kept, those of the least mean mIoU first."""
    candidates = []
    mious = [metrics.ratios(result.scores.columns)["miou"] for result in results]
    for name, pixels, mask in zip(images.names, images.images, images.masks, strict=True):
        if not all(name in result.predictions.names and name in result.scores.images for result in results):
            continue
        mean = statistics.fmean(
            miou[result.scores.images.index(name)] for miou, result in zip(mious, results, strict=True)
        )
        if not math.isnan(mean):  # every pixel is ignored
            candidates.append(_Candidate(name, pixels, mask == 1, mask == IGNORED, mean))
    return sorted(candidates, key=lambda candidate: (candidate.mean_miou, candidate.name))


def _sheet(
    found: Contest,
    limits: Evaluation,
    results: Sequence[_Result],
    candidates: Sequence[_Candidate],
    position: int,
    rank: str,
) -> Sheet:
    image = candidates[position]
    predictions = [result.predictions.of(image.name) for result in results]
    target: Target = "via" if "via_true" in results[0].scores.columns else "track"
    judged_by = _Judge(np.where(image.ignore, IGNORED, image.truth).astype(np.uint8), target, limits)

    def picture(title: str, figure: str, lines: tuple[str, ...], prediction: Mask, bold: bool = False) -> SheetPicture:
        pixels = overlay(image.truth, prediction, image.ignore, target, limits)
        return SheetPicture(title, figure, lines, pixels, bold)

    def judged(title: str, prediction: Mask, result: _Result | None = None) -> SheetPicture:
        miou, (*lines, last) = judged_by.of(prediction)
        if result and result.repeat:
            last += f"; repeat {result.repeat}"
        ours = result is not None and result.row.family == "ours"
        return picture(
            title, f"{100 * miou:.2f} %", (*lines, last, *judged_by.not_counted(prediction)), prediction, ours
        )

    height, width = image.truth.shape
    pictures = [
        SheetPicture("Image", "", (f"{width} × {height} px",), to_channels(image.pixels, 3)),
        picture("Truth", "", judged_by.nets(), image.truth),
        *(
            judged(result.row.label, prediction, result)
            for result, prediction in zip(results, predictions, strict=True)
        ),
        judged(accuracy_table.REFERENCES["otsu"], otsu(image.pixels)),
    ]
    truth = image.truth & ~image.ignore
    marks = [_marks(truth, prediction & ~image.ignore, target, limits) for prediction in predictions]
    electrical = any(mark.any() for mark in marks)
    if not electrical:
        marks = [(prediction ^ image.truth) & ~image.ignore for prediction in predictions]
    return Sheet(
        f"{rank.capitalize()} of {len(candidates)} images {found.where}: {image.name}",
        pictures,
        part_corner(marks, sheet.part_side(truth.shape)),
        _legend(target, bool(image.ignore.any())),
        " ".join(_caption(found, limits, results, candidates, position, electrical, target)),
    )


@dataclass(frozen=True, eq=False)
class _Judge:
    """Says what is right and wrong on one image; it counts anew, by the rules that the pictures are drawn by.

    Attributes:
        packed: ``(H, W)`` truth, as in a pack.
        target: what is foreground.
        limits: border and least area.
    """

    packed: UInt8Array
    target: Target
    limits: Evaluation

    def _count(self, prediction: Mask, **changes: int) -> dict[str, int]:
        limits = self.limits.model_copy(update={"cldice": False, **changes})
        return count_terms(self.packed, prediction, self.target, limits)

    def of(self, prediction: Mask) -> tuple[float, tuple[str, ...]]:
        """Return mIoU, and how many faults of each kind there are, in words."""
        terms = {column: np.array([value]) for column, value in self._count(prediction).items()}
        figures = {name: values[0] for name, values in metrics.ratios(terms).items()}
        return float(figures["miou"]), _faults(figures)

    def nets(self) -> tuple[str, ...]:
        """Say how many nets or vias are true, and how many of them are not judged."""
        truth = self.packed == 1
        if self.target == "via":
            return (f"{self._count(truth)['via_true']} vias",)
        inner = self._count(truth)["nets"]
        outer = self._count(truth, border_px=0)["nets"] - inner
        return (f"{inner} interior net{'s' * (inner != 1)}", *([f"{outer} in the border alone"] if outer else []))

    def not_counted(self, prediction: Mask) -> tuple[str, ...]:
        """Say what would be faults but for the border, and how many components are too small; nothing if none is."""
        said = faults_in_words(uncounted_faults(self.packed, prediction, self.target, self.limits))
        return tuple(textwrap.wrap(f"not counted: {said}", LINE_CHARACTERS)) if said else ()


def _faults(figures: Mapping[str, float]) -> tuple[str, ...]:
    """Say how many faults of each kind an image has; vias are neither shorted nor open."""
    if "via_missed" in figures:
        return (f"{figures['via_false']:.0f} false, {figures['via_missed']:.0f} missed",)
    shorts, opens = (int(figures[name]) for name in ("shorts", "opens"))
    return (
        f"{shorts} short{'s' * (shorts != 1)}, {opens} open{'s' * (opens != 1)}",
        f"{figures['false']:.0f} false, {figures['missed']:.0f} missed",
    )


def _marks(truth: Mask, prediction: Mask, target: Target, limits: Evaluation) -> Mask:
    if target == "via":
        return metrics.via_fault_map(truth, prediction) > 0
    return metrics.fault_places(truth, prediction, border_px=limits.border_px, min_area_px=limits.min_area_px)


def part_corner(marks: Sequence[Mask], side: int) -> tuple[int, int]:
    """Return top and left of the square that is looked at more closely, the same for all networks.

    In its middle is the square of half its side that most networks have an error in; of such ones the one with the most
    marks, and of these the first in raster order. Without any mark, it is the middle of the image.

    Args:
        marks: ``(H, W)`` of each network, true at its errors.
        side: of the square, at most ``min(H, W)``.
    """
    height, width = marks[0].shape
    inner = max(side // 2, 1)
    sums = [_window_sums(mark, inner) for mark in marks]
    amount = np.sum(sums, axis=0)
    if not amount.any():
        return (height - side) // 2, (width - side) // 2
    networks = np.sum([found > 0 for found in sums], axis=0)
    best = np.argmax(networks * (int(amount.max()) + 1) + amount)
    corner = np.array(np.unravel_index(best, amount.shape))
    within = np.argwhere(np.any([mark[corner[0] :, corner[1] :][:inner, :inner] for mark in marks], axis=0))
    middle = corner + (within.min(axis=0) + within.max(axis=0) + 1) // 2
    top, left = np.clip(middle - side // 2, 0, (height - side, width - side)).tolist()
    return top, left


def _window_sums(mark: Mask, side: int) -> NDArray[np.int64]:
    """Return how many pixels of a mask each square holds, by its top left corner, ``(H - side + 1, W - side + 1)``."""
    total = np.pad(mark.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    sums: NDArray[np.int64] = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return sums


def _legend(target: Target, ignored: bool) -> list[tuple[str, tuple[int, int, int]]]:
    words = {
        "short": "short: joins nets",
        "open": "open: a net in pieces",
        "false": "false: no such net",
        "missed": "missed: a net not found",
    }
    if target == "via":
        words = {"false": "false: no such via", "missed": "missed: a via not found"}
    shown = [
        ("right", PREDICTED),
        ("predicted, not true", ONLY_PREDICTED),
        ("true, not predicted", ONLY_TRUE),
    ]
    shown += [(text, COLOURS[name]) for name, text in words.items()]
    return shown + [("ignored", IGNORED_PIXELS)] * ignored


def _caption(
    found: Contest,
    limits: Evaluation,
    results: Sequence[_Result],
    candidates: Sequence[_Candidate],
    position: int,
    electrical: bool,
    target: Target,
) -> Iterator[str]:
    """Say how the image, the part and the figures were chosen and formed."""
    shape = candidates[position].truth.shape
    repeat = "repeat 0" if not any(result.repeat for result in results) else "repeat 0 where no other is named"
    yield (
        f"Networks: {repeat}. Percentages: mIoU of this image; its mean over the {len(results)} networks, "
        f"{100 * candidates[position].mean_miou:.2f} %, ranks the images (equal ones by name). The images: "
        f"{len(candidates)} of {found.facts['test_images']} test images, drawn by a hash of their names."
    )
    kind = "an electrical error" if target != "via" else "a via missed or false"
    mark = f"have {kind}" if electrical else "have wrong pixels, since none has " + kind
    yield (
        f"Lower pictures, {sheet.zoom_of(shape)}:1: the framed square of {sheet.part_side(shape)} px, in all the same, "
        f"in whose middle most networks {mark}."
    )
    if target == "via":
        yield "A via is found where the predicted centre is at most its radius away from its own."
    else:
        yield "Dark red and dark blue: the wrong pixels of shorts and of open nets."
        yield describe_net_limits(limits)
        yield "Not counted: errors of nets in that border, and specks, the components that are too small."
    shown = {result.row.key for result in results}
    if missing := [row.label for row in found.rows if row.key not in shown]:
        yield f"Without kept predictions: {', '.join(missing)}."
    yield f"Protocol: {found.facts['protocol']}."
    yield from conventions.stand_ins((str(found.facts["dataset"]), *str(found.facts["train"]).split("+")))
