"""Builds panels: all results on the hardest, median and easiest kept images."""

from __future__ import annotations

import math
import statistics
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmark import metrics
from benchmark.config.protocol import Evaluation
from benchmark.config.targets import Target
from benchmark.data.formats.images import UInt8Array, to_channels
from benchmark.data.packs import IGNORED
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
from benchmark.records.packed_study import is_stored
from benchmark.records.store import Store
from benchmark.report.plots import plot_style, sheet
from benchmark.report.plots.sheet import Sheet, SheetPicture
from benchmark.report.plots.wrong_square import part_corner
from benchmark.report.read import StudyResults
from benchmark.report.scores import Scores
from benchmark.report.tables import accuracy_table, conventions
from benchmark.report.tables.contests import Contest, contest
from benchmark.report.tables.render import Block, Row
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

RANKS = ("hardest", "median", "easiest")
KINDS = ("pdf", "png")
LINE_CHARACTERS = 32  # of a line above a picture that is not shortened
#: Counts of errors that rank the images; a target has those of nets or those of vias.
ERRORS = ("opens", "shorts", "missed", "false", "via_missed", "via_false")

Tell = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Kept:
    """The predictions that one repeat kept."""

    repeat: int
    predictions: Predictions
    scores: Scores

    @property
    def names(self) -> set[str]:
        """Names of the images that were both kept and counted."""
        return {*self.predictions.names} & {*self.scores.images}

    @cached_property
    def ratios(self) -> Mapping[str, npt.NDArray[np.float64]]:
        """The metrics of each image."""
        return metrics.ratios(self.scores.columns)

    def counts(self, name: str) -> dict[str, int]:
        """Return the integer terms of an image."""
        index = self.scores.images.index(name)
        return {column: int(values[index]) for column, values in self.scores.columns.items()}


@dataclass(frozen=True, eq=False)
class _Result:
    """A network's predictions: of each image, from its first repeat that kept it. Folds keep different images."""

    row: Row
    kept: Mapping[str, _Kept]


@dataclass(frozen=True, eq=False)
class _Candidate:
    """An image that may be shown, with the networks' mean number of errors and mean mIoU."""

    name: str
    pixels: UInt8Array
    truth: Mask
    ignore: Mask
    mean_errors: float
    mean_miou: float


@dataclass(frozen=True, eq=False)
class _Choice:
    """All that the panels of a block share, and the candidates from the hardest to the easiest."""

    contest: Contest
    limits: Evaluation
    results: Sequence[_Result]
    candidates: Sequence[_Candidate]

    @property
    def target(self) -> Target:
        """Meaning of the foreground."""
        return "via" if "via_true" in next(iter(self.results[0].kept.values())).scores.columns else "track"


def sheets(folder: Path, study: StudyResults, blocks: Sequence[Block], tell: Tell) -> Iterator[Sheet]:
    """Compose up to three panels per block of the accuracy table.

    Args:
        folder: ``results/<study>``.
        study: as read from there.
        blocks: of the accuracy table.
        tell: called with a sentence for each reason why something is left out.

    Yields:
        The sheets, whose stems are ``<block>.<rank>``.
    """
    if study.protocol is None or not study.protocol.report.panels:
        return
    without: list[str] = []
    for block in blocks:
        by_image = contest(study, block, "miou", "image")
        if not any(by_image.scores.values()):
            continue  # no run has finished
        file = Store(folder).images_file(str(by_image.facts["dataset"]))
        if not is_stored(file):
            without.append(block.key)
            continue
        try:
            images = read_images(file)
        except UserError as error:
            tell(f"{error}; no panels of {block.key}")
            continue
        yield from _sheets_of_block(Store(folder), study.protocol.evaluation, by_image, images, tell)
    if without:
        reason = "too large, or tested by an earlier release"
        tell(f"{folder}: no panels of {', '.join(without)}, since no test images were kept: {reason}")


def files(panels: Iterable[Sheet]) -> dict[str, bytes]:
    """Draw panels; return content by path below ``report/``: ``panels/<block>.<rank>.{pdf,png}``."""
    content: dict[str, bytes] = {}
    for panel in panels:
        figure = sheet.draw(panel)
        content |= {f"panels/{panel.stem}.{kind}": plot_style.save(figure, kind) for kind in KINDS}
    return content


def is_panel(name: str) -> bool:
    """Tell whether a file's name is one that :func:`files` gives."""
    return name.endswith(tuple(f".{rank}.{kind}" for rank in RANKS for kind in KINDS))


def _sheets_of_block(
    store: Store, limits: Evaluation, by_image: Contest, images: Images, tell: Tell
) -> Iterator[Sheet]:
    results = _results(store, by_image, images, tell)
    candidates = _by_difficulty(images, results) if results else []
    if not candidates:
        tell(f"{store.folder}: no panels of {by_image.key}, since no predictions of its test images were kept")
        return
    choice = _Choice(by_image, limits, results, candidates)
    ranks: dict[int, str] = {}  # of one or two candidates, none is shown twice
    for rank, position in zip(RANKS, (0, (len(candidates) - 1) // 2, len(candidates) - 1), strict=True):
        ranks.setdefault(position, rank)
    for position, rank in ranks.items():
        yield _sheet(choice, candidates[position], rank)


def _results(store: Store, by_image: Contest, images: Images, tell: Tell) -> list[_Result]:
    """Read the networks' predictions of the images; ``tell`` is called for files that are broken or do not fit."""
    results = []
    train, test = str(by_image.facts["train"]).split("+"), str(by_image.facts["dataset"])
    for row in by_image.rows:
        kept: dict[str, _Kept] = {}
        for repeat, scores in sorted(by_image.scores[row.key].items()):
            if kept.keys() >= {*images.names}:
                break
            file = store.predictions_file(train, row.key, repeat, test)
            if not is_stored(file):
                continue
            try:
                of_repeat = _Kept(repeat, read_predictions(file), scores)
            except UserError as error:
                tell(f"{error}; left out of the panels")
                continue
            if not _agrees(of_repeat, images):
                tell(f"{file}: does not agree with images.{test}.csv beside it; left out of the panels")
                continue
            kept = {**dict.fromkeys(of_repeat.names, of_repeat), **kept}
        if kept:
            results.append(_Result(row, kept))
    return results


def _agrees(kept: _Kept, images: Images) -> bool:
    """Tell whether the kept predictions are those that were counted."""
    for name, mask in zip(images.names, images.masks, strict=True):
        if name not in kept.names:
            continue
        prediction, counts = kept.predictions.of(name), kept.counts(name)
        if prediction.shape != mask.shape:
            return False
        sums = (int((prediction & (mask == value)).sum()) for value in (1, 0))
        if (counts["tp"], counts["fp"]) != tuple(sums) or counts["tp"] + counts["fn"] != int((mask == 1).sum()):
            return False
    return True


def _by_difficulty(images: Images, results: Sequence[_Result]) -> list[_Candidate]:
    """Return the images of which all networks' predictions were kept, the hardest first.

    The hardest image has the most errors of nets or vias; of images with equally many, the least mIoU.
    """
    candidates = []
    for name, pixels, mask in zip(images.names, images.images, images.masks, strict=True):
        if not all(name in result.kept for result in results):
            continue
        errors, mious = [], []
        for kept in (result.kept[name] for result in results):
            index, values = kept.scores.images.index(name), kept.ratios
            mious.append(float(values["miou"][index]))
            errors.append(sum(float(values[kind][index]) for kind in ERRORS if kind in values))
        miou = statistics.fmean(mious)
        if not math.isnan(miou):  # every pixel is ignored
            mean_errors = statistics.fmean(errors)
            candidates.append(_Candidate(name, pixels, mask == 1, mask == IGNORED, mean_errors, miou))
    return sorted(candidates, key=lambda candidate: (-candidate.mean_errors, candidate.mean_miou, candidate.name))


def _sheet(choice: _Choice, image: _Candidate, rank: str) -> Sheet:
    limits, target = choice.limits, choice.target
    predictions = [result.kept[image.name].predictions.of(image.name) for result in choice.results]
    judge = _Judge(np.where(image.ignore, IGNORED, image.truth).astype(np.uint8), target, limits)

    def judged(title: str, prediction: Mask, result: _Result | None = None) -> SheetPicture:
        miou, (*lines, last) = judge.of(prediction)
        if result and choice.contest.noun == "repeat" and (repeat := result.kept[image.name].repeat):
            last += f"; repeat {repeat}"
        return SheetPicture(
            title,
            f"{100 * miou:.2f} %",
            (*lines, last, *judge.not_counted(prediction)),
            overlay(image.truth, prediction, image.ignore, target, limits),
            bold=result is not None and result.row.family == "ours",
            model=result.row.key if result else "otsu",
        )

    height, width = image.truth.shape
    truth = overlay(image.truth, image.truth, image.ignore, target, limits)
    pictures = [
        SheetPicture("Image", "", (f"{width} × {height} px",), to_channels(image.pixels, 3)),
        SheetPicture("Truth", "", judge.nets(), truth),
        *(
            judged(result.row.label, prediction, result)
            for result, prediction in zip(choice.results, predictions, strict=True)
        ),
        judged(accuracy_table.REFERENCES["otsu"], otsu(image.pixels)),
    ]
    judged_truth = image.truth & ~image.ignore
    marks = [_marks(judged_truth, prediction & ~image.ignore, target, limits) for prediction in predictions]
    electrical = any(mark.any() for mark in marks)
    if not electrical:
        marks = [(prediction ^ image.truth) & ~image.ignore for prediction in predictions]
    return Sheet(
        stem=f"{choice.contest.key}.{rank}",
        dataset=str(choice.contest.facts["dataset"]),
        rank=rank,
        title=f"{rank.capitalize()} of {counted(len(choice.candidates), 'image')} {choice.contest.where}: {image.name}",
        pictures=pictures,
        corner=part_corner(marks, sheet.part_side(image.truth.shape)),
        legend=_legend(target, bool(image.ignore.any())),
        caption=" ".join(_caption(choice, image, electrical)),
    )


@dataclass(frozen=True, eq=False)
class _Judge:
    """Counts right and wrong nets of one image anew, by the rules of the pictures.

    Attributes:
        packed: ``(H, W)`` truth, as in a pack.
        target: meaning of the foreground.
        limits: border and least area.
    """

    packed: UInt8Array
    target: Target
    limits: Evaluation

    def _count(self, prediction: Mask, **changes: int) -> dict[str, int]:
        limits = self.limits.model_copy(update={"cldice": False, **changes})
        return count_terms(self.packed, prediction, self.target, limits)

    def of(self, prediction: Mask) -> tuple[float, tuple[str, ...]]:
        """Return mIoU, and the number of faults of each kind in words."""
        terms = {column: np.array([value]) for column, value in self._count(prediction).items()}
        figures = {name: values[0] for name, values in metrics.ratios(terms).items()}
        return float(figures["miou"]), _faults(figures)

    def nets(self) -> tuple[str, ...]:
        """Say how many nets or vias are true, and how many of them are not judged."""
        truth = self.packed == 1
        if self.target == "via":
            return (counted(self._count(truth)["via_true"], "via"),)
        inner = self._count(truth)["nets"]
        outer = self._count(truth, border_px=0)["nets"] - inner
        return (counted(inner, "interior net"), *([f"{outer} in the border alone"] if outer else []))

    def not_counted(self, prediction: Mask) -> tuple[str, ...]:
        """Say how many faults only the border and the least area keep from counting; nothing if there are none."""
        words = faults_in_words(uncounted_faults(self.packed, prediction, self.target, self.limits))
        return tuple(textwrap.wrap(f"not counted: {words}", LINE_CHARACTERS)) if words else ()


def _faults(figures: Mapping[str, float]) -> tuple[str, ...]:
    """Say how many faults of each kind an image has; vias are neither shorted nor open."""
    if "via_missed" in figures:
        return (f"{figures['via_false']:.0f} false, {figures['via_missed']:.0f} missed",)
    shorts, opens = (int(figures[name]) for name in ("shorts", "opens"))
    return (
        f"{counted(shorts, 'short')}, {counted(opens, 'open')}",
        f"{figures['false']:.0f} false, {figures['missed']:.0f} missed",
    )


def _marks(truth: Mask, prediction: Mask, target: Target, limits: Evaluation) -> Mask:
    if target == "via":
        return metrics.via_fault_map(truth, prediction) > 0
    return metrics.fault_places(truth, prediction, border_px=limits.border_px, min_area_px=limits.min_area_px)


def _legend(target: Target, ignored: bool) -> list[tuple[str, tuple[int, int, int]]]:
    words = {
        "short": "short: joins nets",
        "open": "open: a net in pieces",
        "false": "false: no such net",
        "missed": "missed: a net not found",
    }
    if target == "via":
        words = {"false": "false: no such via", "missed": "missed: a via not found"}
    entries = [
        ("right", PREDICTED),
        ("predicted, not true", ONLY_PREDICTED),
        ("true, not predicted", ONLY_TRUE),
    ]
    entries += [(text, COLOURS[name]) for name, text in words.items()]
    return entries + [("ignored", IGNORED_PIXELS)] * ignored


def _caption(choice: _Choice, image: _Candidate, electrical: bool) -> Iterator[str]:
    """Say how the image, the square and the figures were chosen and formed."""
    by_image, target, shape = choice.contest, choice.target, image.truth.shape
    repeats = [result.kept[image.name].repeat for result in choice.results]
    repeat = "repeat 0" if not any(repeats) else "repeat 0 unless another is named"
    of_fold = f"of fold {repeats[0]}, which were not trained on this image"
    yield f"Networks: {of_fold if by_image.noun == 'fold' else repeat}. Percentages: mIoU of this image."
    n = len(choice.results)
    over = f"mean over the {n} networks" if n > 1 else "of the one network"
    errors = "missed and false vias" if target == "via" else "opens, shorts, missed and false nets"
    if choice.candidates[0].mean_errors:
        yield (
            f"Order of the images: the most {errors} first ({over}: {image.mean_errors:.2f} here); of equal ones, the "
            f"least mIoU ({100 * image.mean_miou:.2f} % here)."
        )
    else:
        yield (
            f"Order of the images: the least mIoU first ({over}: {100 * image.mean_miou:.2f} % here), since no image "
            f"has {errors}."
        )
    yield (
        f"The images: {len(choice.candidates)} of {counted(str(by_image.facts['test_images']), 'test image')}, drawn "
        "by a hash of their names."
    )
    reason = "errors of nets" if target != "via" else "missed or false vias"
    yield (
        f"Lower pictures, {sheet.zoom_of(shape)}:1: the framed square of {sheet.part_side(shape)} px, the same in all; "
        f"as many networks as possible have {reason if electrical else 'wrong pixels'} in its middle"
        f"{'' if electrical else f' (none has {reason})'}."
    )
    if target == "via":
        yield "A via is found if the predicted centre is at most its radius away from its own."
    else:
        yield "Dark red and dark blue: the wrong pixels of shorts and of open nets."
        yield describe_net_limits(choice.limits)
        yield "Not counted: errors of nets in that border, and specks, the components that are too small."
    shown = {result.row.key for result in choice.results}
    if missing := [row.label for row in by_image.rows if row.key not in shown]:
        yield f"Without kept predictions: {', '.join(missing)}."
    yield f"Protocol: {by_image.facts['protocol']}."
    yield from conventions.stand_ins((str(by_image.facts["dataset"]), *str(by_image.facts["train"]).split("+")))
