"""Checks a dataset's folder for faults that make a study's numbers wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.config.protocol import Protocol
from benchmark.data import duplicates
from benchmark.data.check.findings_table import FindingRow, Verification
from benchmark.data.check.judgement import MOST_NAMED, Finding, judge, judge_split, named, not_searched, squeezed
from benchmark.data.check.picture_statistics import MOST_WINDOWS, NAMES, measure_survey
from benchmark.data.check.survey import DatasetFolder, Survey, survey_folder
from benchmark.data.formats.images import sized
from benchmark.data.packs import Progress
from benchmark.data.splits import PARTS, count_unlabelled, leakage, look_alikes, unlabelled
from benchmark.data.tiling import cut_by_smallest, smaller_input
from benchmark.utils.words import counted

MOST_KINDS = 8  # of sizes, formats and sets of values, in one row


def verify_dataset(
    folder: DatasetFolder,
    protocol: Protocol,
    *,
    against: DatasetFolder | None = None,
    windows: int = MOST_WINDOWS,
    progress: Progress | None = None,
) -> Verification:
    """Read a dataset's whole folder and report its content and all its faults, not only the first.

    Args:
        folder: the dataset's folder; may be one that a study refuses.
        protocol: under which a study would read it.
        against: another dataset, whose statistics are shown beside; test images of either must not be among the
            training images of the other.
        windows: most windows whose widths, contrast, noise and blur are measured, about a tenth of a second each.
        progress: called with (pairs done, pairs in all), for each of the folders.
    """
    survey = survey_folder(folder, protocol, progress)
    pairs, root = survey.scan.pairs, folder.root
    images, labels = ([_short(str(getattr(pair, kind)), root) for pair in pairs] for kind in ("image", "label"))
    findings = judge([check.facts for check in survey.checks], images, labels)
    surveys = [survey, *([survey_folder(against, protocol, progress)] if against else [])]
    rows = [*_file_rows(survey), *_image_rows(survey, findings, protocol), *_mask_rows(survey, findings)]
    rows += [*_statistics_rows(surveys, windows), *_split_rows(survey, protocol)]
    rows += [_overlap_row(survey, other) for other in surveys[1:]]
    return Verification(dataset=folder.name, root=str(root), protocol=protocol.name, rows=tuple(rows))


def _file_rows(survey: Survey) -> list[FindingRow]:
    scan, root, spec = survey.scan, survey.folder.root, survey.folder.spec

    def row(name: str, paths: Sequence[Path], remedy: str, *, wrong: bool = True) -> FindingRow:
        text = f"{_named(paths, root)}: {remedy}" if paths else ""
        return FindingRow(name, str(len(paths)), text if wrong else "", "" if wrong else text)

    rows = [
        FindingRow(
            "files",
            f"{counted(scan.images, 'image')}, {counted(scan.labels, 'label')}, "
            f"{counted(scan.ignores, 'ignore mask')}, {counted(scan.others, 'other')}",
            "; ".join(_short(fault, root) for fault in scan.faults),
            not_searched([_short(str(path), root) for path in scan.folders]),
        ),
        FindingRow(
            "pairs",
            str(len(scan.pairs)),
            "" if scan.pairs else "expected image/ and label/, alone or inside train/ val/ test/",
        ),
        row("images without label", scan.unlabelled, "add the labels or remove the images")
        if spec.unlabelled == "refuse"
        else row("images without label", scan.unlabelled, "left out", wrong=False),
        row("labels without image", scan.unpaired, "add the images or remove the labels"),
        row("ignore masks without image", scan.unpaired_ignores, "rename or remove them"),
        row("duplicate stems", scan.doubled, "another file has the same stem: keep one of them"),
        row("misnamed files", scan.misnamed, "expected names such as sem0001 and label0001"),
    ]
    if spec.group is not None:
        unmatched = f"{_named(scan.ungrouped, root)}: the group pattern {spec.group!r} does not match"
        frames = {pair.group for pair in scan.pairs}
        rows.append(FindingRow("source frames", str(len(frames)), unmatched if scan.ungrouped else ""))
    documented = [file for file in spec.source if file.to]
    if documented:
        changed = [root / str(file.to) for file in documented if not file.is_at(root / str(file.to))]
        rows.append(row(f"source files out of {len(documented)} that differ", changed, "missing, or another SHA-256"))
    count, broken = _faults(survey, "image", "label", "ignore")
    return [*rows, FindingRow("unreadable files", str(count), broken)]


def _image_rows(survey: Survey, findings: Mapping[str, Finding], protocol: Protocol) -> list[FindingRow]:
    size, tile, name, headers = survey.size, survey.tile, survey.folder.name, [check.header for check in survey.checks]
    shapes = [header.shape for header in headers if header.shape]
    small = [
        pair.image
        for pair, header in zip(survey.scan.pairs, headers, strict=True)
        if header.shape and min(header.shape) < size
    ]
    least = min(map(min, shapes), default=size)
    too_small = f"{_named(small, survey.folder.root)}: smaller than the input {size}x{size}, "
    depths = Counter(header.depth for header in headers if header.shape)
    levels = survey.levels
    mapped = f"; {levels.low:g} becomes 0 and {levels.high:g} becomes 255" if levels else ""
    areas = [math.prod(header.shape) if header.shape else 0 for header in headers]
    counts = Counter(survey.owners)
    # Partial tiles overlap and together show more pixels than their image has: all of it.
    used = sum(min(count * tile**2, areas[owner]) for owner, count in counts.items())
    per_image = sorted(Counter(counts.values()).items())
    tiles = [
        str(len(survey.tiles)),
        ", ".join(f"{count} each from {counted(images, 'image')}" for count, images in per_image),
    ]
    tiles += [f"{1 - used / sum(areas):.1%} of all pixels left out"] if any(areas) else []
    large = [shape for shape in shapes if min(shape) >= size]
    return [
        FindingRow("image sizes", _kinds(map(sized, shapes))),
        FindingRow(
            "images smaller than the input",
            str(len(small)),
            too_small + smaller_input(name, protocol, least) if small else "",
        ),
        FindingRow(
            "bit depth",
            _kinds(f"{depth} bit" for depth in depths.elements()) + mapped,
            "one gray would mean two things: convert all files to one depth" if len(depths) > 1 else "",
            squeezed(levels),
        ),
        _judged("image formats", _kinds(header.form for header in headers if header.form), findings),
        FindingRow(
            f"tiles of {tile}x{tile}",
            "; ".join(filter(None, tiles)),
            warning=cut_by_smallest(tile, protocol.input.tile_for(name), large),
        ),
    ]


def _mask_rows(survey: Survey, findings: Mapping[str, Finding]) -> list[FindingRow]:
    root, pairs, checks = survey.folder.root, survey.scan.pairs, survey.checks
    (wrong_sizes, sizes), (_, refused) = _faults(survey, "size"), _faults(survey, "values")
    alike: dict[str, list[int]] = defaultdict(list)
    for index, check in enumerate(checks):
        if check.note:
            alike[check.note.partition(";")[0]].append(index)  # a file's own figures follow the semicolon
    notes = [f"{_named([pairs[i].label for i in same], root)}: {checks[same[0]].note}" for same in alike.values()]
    notes += [findings["mask values"].text] if "mask values" in findings else []
    facts = [check.facts for check in checks]
    shares = np.array([pair.share for pair in facts if pair.counted])
    images, labels = sum(pair.image_is_mask for pair in facts), sum(pair.label_is_image for pair in facts)
    counted, ignored = sum(pair.counted for pair in facts), sum(pair.ignored for pair in facts)
    grays = (_mean(getattr(pair, f"{side}_gray") for pair in facts) for side in ("foreground", "background"))
    values = _kinds(check.values for check in checks if check.values)
    return [
        FindingRow("label sizes", f"{wrong_sizes} differ from their image's", sizes),
        FindingRow("label formats", _kinds(check.label_form for check in checks if check.label_form)),
        FindingRow("mask values", values, refused, "\n".join(notes)),
        _judged("empty masks", str(np.count_nonzero(shares == 0)), findings),
        _judged("full masks", str(np.count_nonzero(shares == 1)), findings),
        _judged("mean gray", "foreground {}, background {}".format(*grays), findings),
        _judged(
            "swapped folders",
            f"images that look like masks: {images}, labels that look like images: {labels}",
            findings,
        ),
        _judged("ignored pixels", f"{ignored / (counted + ignored):.2%}" if ignored else "0", findings),
    ]


def _statistics_rows(surveys: Sequence[Survey], windows: int) -> list[FindingRow]:
    """Describe one dataset, or two side by side: median, 5 % and 95 % quantile of each figure."""
    statistics = [measure_survey(survey, windows) for survey in surveys]
    names = [f"{survey.folder.name} " if len(surveys) > 1 else "" for survey in surveys]

    def row(name: str, texts: Iterable[str]) -> FindingRow:
        return FindingRow(name, "; ".join(map(str.__add__, names, texts)))

    return [
        row("foreground share", map(_share, surveys)),
        row("windows measured", map(str, statistics)),
        *(row(name, [figures.summary(name) for figures in statistics]) for name in NAMES),
    ]


def _share(survey: Survey) -> str:
    shares = [check.facts.share for check in survey.checks if check.facts.counted]
    return f"mean {np.mean(shares):.1%}, from {min(shares):.1%} to {max(shares):.1%}" if shares else "-"


def _split_rows(survey: Survey, protocol: Protocol) -> list[FindingRow]:
    tiles, divided, name = survey.tiles, survey.divisions, survey.folder.name
    few, text = count_unlabelled(tiles, protocol.split), unlabelled(tiles, protocol.split)
    text += ": label more, or look whether the ignored pixels are the right ones" if 2 * few > len(tiles) else ""
    findings = judge_split(name, tiles, divided, protocol) if divided else {}
    similar = _sets("tiles", *look_alikes(tiles, *divided))
    rows = [
        _exact_row(survey),
        _judged("near duplicates", similar, findings),
        FindingRow("tiles with too few labelled pixels", str(few), warning=text),
    ]
    if not divided:
        return [*rows, FindingRow("split", "-", survey.shortage)]
    counts = {part: [len(getattr(division, part)) for division in divided] for part in PARTS}
    given = any(tile.given for tile in tiles)
    source = "as the folders give it" if given else f"by {protocol.split.unit}, seed {protocol.seed}"
    left = sum(not any(parts) for parts in survey.parts) - few
    folds = f"{len(divided)} folds: " if protocol.split.folds else ""
    value = folds + ", ".join(f"{_range(sizes)} {part}" for part, sizes in counts.items()) + f" ({source})"
    rows.append(FindingRow("split", value + (f"; {counted(left, 'tile')} in no part" if left else "")))
    leaks = leakage(tiles, *divided)
    for kind, (val, test) in (
        ("frame also trained on", leaks.groups),
        ("looks like a training tile", leaks.clusters),
        ("touches a training tile", leaks.neighbours),
    ):
        value = f"val {val} of {sum(counts['val'])}, test {test} of {sum(counts['test'])}"
        rows.append(_judged(f"leakage: {kind}", value, findings))
    return rows


def _exact_row(survey: Survey) -> FindingRow:
    """Compare pixels as a network gets them: equal bytes give equal pixels, and so do other formats."""
    equal: dict[bytes, list[int]] = defaultdict(list)
    for index, check in enumerate(survey.checks):
        if check.digest:
            equal[check.digest].append(index)
    parts: dict[int, set[tuple[str | None, ...]]] = defaultdict(set)
    for owner, of_tile in zip(survey.owners, survey.parts, strict=True):
        parts[owner] |= {of_tile} if any(of_tile) else set()
    sets = [indices for indices in equal.values() if len(indices) > 1]
    across = [indices for indices in sets if len(set().union(*(parts[index] for index in indices))) > 1]
    first = [survey.scan.pairs[index].image for index in (across or sets or [[]])[0][:MOST_NAMED]]
    names = " = ".join(_short(str(image), survey.folder.root) for image in first)
    return FindingRow(
        "exact duplicates",
        _sets("images", sets, across),
        f"{names}: one part knows the other, keep one of each" if across else "",
        f"{names}: counted more than once" if sets and not across else "",
    )


def _sets(kind: str, sets: Sequence[Sequence[int]], across: Sequence[Sequence[int]]) -> str:
    return (
        f"{sum(map(len, sets))} {kind} in {counted(len(sets), 'set')}, {len(across)} across parts" if sets else "none"
    )


def _overlap_row(survey: Survey, other: Survey) -> FindingRow:
    """Compare with another dataset, tile by tile."""
    pairs = duplicates.overlap(survey.thumbnails, other.thumbnails)
    alike = len({index for index, _ in pairs})
    together = {pair: set(zip(survey.parts[pair[0]], other.parts[pair[1]], strict=False)) for pair in pairs}
    tested = len({index for (index, _), parts in together.items() if ("test", "train") in parts})
    trained = len({match for (_, match), parts in together.items() if ("train", "test") in parts})
    name, theirs = survey.folder.name, other.folder.name
    return FindingRow(
        f"overlap with {theirs}",
        f"{alike} of {len(survey.tiles)} tiles look like a tile there; {tested} are test here and training there, "
        f"{trained} of {theirs} are test there and training here",
        warning=f"do not train on {theirs} and test on {name} or the reverse" if tested or trained else "",
    )


def _faults(survey: Survey, *kinds: str) -> tuple[int, str]:
    """Return the number of faults of some kinds, and the first one's message with the names of others."""
    faults = []
    for pair, check in zip(survey.scan.pairs, survey.checks, strict=True):
        files = {"image": pair.image, "ignore": pair.ignore or pair.label}
        faults += [(files.get(kind, pair.label), message) for kind, message in check.faults if kind in kinds]
    if not faults:
        return 0, ""
    root = survey.folder.root
    others = f"\nalso {_named([path for path, _ in faults[1:]], root)}" if len(faults) > 1 else ""
    return len(faults), _short(faults[0][1], root) + others


def _named(paths: Sequence[Path], root: Path) -> str:
    return named([_short(str(path), root) for path in paths])


def _judged(name: str, value: str, findings: Mapping[str, Finding]) -> FindingRow:
    """Return a row with its finding, which a pack refuses or notes too."""
    text, wrong = findings.get(name, Finding(""))
    return FindingRow(name, value, text if wrong else "", "" if wrong else text)


def _short(text: str, root: Path) -> str:
    """Name files relative to the dataset's folder, which the table names already."""
    return text.replace(f"{root}/", "").replace(f"{root}\\", "").replace(f"{root}: ", "")


def _range(counts: Sequence[int]) -> str:
    low, high = min(counts), max(counts)
    return str(low) if low == high else f"{low} to {high}"


def _kinds(texts: Iterable[str]) -> str:
    """Count equal texts: ``512x512: 40, 96x96: 2``."""
    counts = Counter(texts).most_common()
    more = f" and {len(counts) - MOST_KINDS} more kinds" if len(counts) > MOST_KINDS else ""
    return ", ".join(f"{text}: {count}" for text, count in counts[:MOST_KINDS]) + more or "-"


def _mean(values: Iterable[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{sum(finite) / len(finite):.0f}" if finite else "-"
