"""The check of a dataset's folder: what is there, and what would make a study's numbers wrong."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.config.protocol import Protocol, Split
from benchmark.data import duplicates
from benchmark.data.check.findings_table import FindingRow, Verification, write
from benchmark.data.check.judgement import MOST_NAMED, Finding, judge, judge_split, named, not_searched, squeezed
from benchmark.data.check.survey import DatasetFolder, Survey, survey
from benchmark.data.formats.images import sized
from benchmark.data.packs import Progress
from benchmark.data.splits import PARTS, Division, count_unlabelled, leakage, look_alikes, unlabelled
from benchmark.data.tiling import cut_by_smallest, smaller_input

__all__ = ["DatasetFolder", "FindingRow", "Verification", "verify", "write"]

MOST_KINDS = 8  # of sizes, formats and sets of values, in one row


def verify(
    subject: DatasetFolder,
    protocol: Protocol,
    *,
    against: DatasetFolder | None = None,
    progress: Progress | None = None,
) -> Verification:
    """Read a dataset's whole folder and say what is there and what is wrong, without stopping at the first problem.

    Args:
        subject: the folder; may be one that a study refuses.
        protocol: under which a study would read it.
        against: another dataset, whose test images must not be among this one's training images, nor the reverse.
        progress: called with (pairs done, pairs in all), for each of the folders.
    """
    seen = survey(subject, protocol, progress)
    findings = _findings(seen)
    rows = [*_file_rows(seen), *_image_rows(seen, findings, protocol), *_mask_rows(seen, findings)]
    rows += _split_rows(seen, protocol)
    if against is not None:
        rows.append(_overlap_row(seen, survey(against, protocol, progress)))
    return Verification(dataset=subject.name, root=str(subject.root), protocol=protocol.name, rows=tuple(rows))


def _file_rows(seen: Survey) -> list[FindingRow]:
    scan, root, spec = seen.scan, seen.subject.root, seen.subject.spec

    def orphans(name: str, paths: Sequence[Path], remedy: str, *, wrong: bool = True) -> FindingRow:
        text = f"{_named(paths, root)}: {remedy}" if paths else ""
        return FindingRow(
            name=name, value=str(len(paths)), problem=text if wrong else "", warning="" if wrong else text
        )

    rows = [
        FindingRow(
            name="files",
            value=f"{scan.images} images, {scan.labels} labels, {scan.ignores} ignore masks, {scan.others} others",
            problem="; ".join(_short(fault, root) for fault in scan.faults),
            warning=not_searched([_short(str(folder), root) for folder in scan.folders]),
        ),
        FindingRow(
            name="pairs",
            value=str(len(scan.pairs)),
            problem="" if scan.pairs else "expected image/ and label/, alone or inside train/ val/ test/",
        ),
        orphans(
            "images without label",
            scan.unlabelled,
            "left out" if spec.unlabelled == "skip" else "add the labels or remove the images",
            wrong=spec.unlabelled == "refuse",
        ),
        orphans("labels without image", scan.unpaired, "add the images or remove the labels"),
        orphans("ignore masks without image", scan.unpaired_ignores, "rename or remove them"),
        orphans("duplicate stems", scan.doubled, "another file has the same stem: keep one of them"),
        orphans("misnamed files", scan.misnamed, "expected names such as sem0001 and label0001"),
    ]
    if spec.group is not None:
        frames = len({pair.group for pair in scan.pairs})
        missed = f"{_named(scan.ungrouped, root)}: the group pattern {spec.group!r} does not match"
        rows.append(FindingRow(name="source frames", value=str(frames), problem=missed if scan.ungrouped else ""))
    count, broken = _faults(seen, "image", "label", "ignore")
    rows.append(FindingRow(name="unreadable files", value=str(count), problem=broken))
    return rows


def _image_rows(seen: Survey, findings: Mapping[str, Finding], protocol: Protocol) -> list[FindingRow]:
    pairs, size = seen.scan.pairs, seen.size
    shapes = [look.header.shape for look in seen.looks]
    small = [pair.image for pair, shape in zip(pairs, shapes, strict=True) if shape and min(shape) < size]
    least = min((min(shape) for shape in shapes if shape), default=size)
    too_small = f"{_named(small, seen.subject.root)}: smaller than the input {size}x{size}, " + smaller_input(
        seen.subject.name, protocol, least
    )
    depths = Counter(look.header.depth for look in seen.looks if look.header.shape)
    mapped = f"; {seen.levels.low:g} becomes 0 and {seen.levels.high:g} becomes 255" if seen.levels else ""
    places = Counter(seen.owners)
    areas = [shape[0] * shape[1] if shape else 0 for shape in shapes]
    # Partial tiles overlap and together show more pixels than their image has: all of it.
    used = sum(min(count * seen.tile**2, areas[owner]) for owner, count in places.items())
    return [
        FindingRow(name="image sizes", value=_kinds(sized(shape) for shape in shapes if shape)),
        FindingRow(name="images smaller than the input", value=str(len(small)), problem=too_small if small else ""),
        FindingRow(
            name="bit depth",
            value=_kinds(f"{depth} bit" for depth in depths.elements()) + mapped,
            problem="one gray would mean two things: convert the ones or the others" if len(depths) > 1 else "",
            warning=squeezed(seen.levels),
        ),
        FindingRow(
            name="image formats",
            value=_kinds(look.header.form for look in seen.looks if look.header.form),
            **_remarks(findings, "image formats"),
        ),
        FindingRow(
            name=f"tiles of {seen.tile}x{seen.tile}",
            value="; ".join(
                filter(
                    None,
                    [
                        str(len(seen.tiles)),
                        ", ".join(
                            f"{count} each from {images} images"
                            for count, images in sorted(Counter(places.values()).items())
                        ),
                        f"{1 - used / sum(areas):.1%} of all pixels left out" if any(areas) else "",
                    ],
                )
            ),
            warning=cut_by_smallest(
                seen.tile,
                protocol.input.tile_for(seen.subject.name),
                [shape for shape in shapes if shape and min(shape) >= size],
            ),
        ),
    ]


def _mask_rows(seen: Survey, findings: Mapping[str, Finding]) -> list[FindingRow]:
    root = seen.subject.root
    pairs, looks = seen.scan.pairs, seen.looks
    (wrong_sizes, sizes), (_, refused) = _faults(seen, "size"), _faults(seen, "values")
    noted: dict[str, list[int]] = defaultdict(list)
    for index, look in enumerate(looks):
        if look.note:
            noted[look.note.partition(";")[0]].append(index)  # what follows are figures of the one file
    facts = [look.facts for look in looks]
    shares = np.array([one.share for one in facts if one.counted])
    images, labels = sum(one.image_is_mask for one in facts), sum(one.label_is_image for one in facts)
    counted, ignored = sum(one.counted for one in facts), sum(one.ignored for one in facts)
    return [
        FindingRow(name="label sizes", value=f"{wrong_sizes} differ from their image's", problem=sizes),
        FindingRow(name="label formats", value=_kinds(look.label_form for look in looks if look.label_form)),
        FindingRow(
            name="mask values",
            value=_kinds(look.values for look in looks if look.values),
            problem=refused,
            warning="\n".join(
                [
                    *(f"{_named([pairs[i].label for i in one], root)}: {looks[one[0]].note}" for one in noted.values()),
                    *_remarks(findings, "mask values").values(),
                ]
            ),
        ),
        FindingRow(
            name="foreground share",
            value=f"mean {shares.mean():.1%}, from {shares.min():.1%} to {shares.max():.1%}" if len(shares) else "-",
        ),
        FindingRow(name="empty masks", value=str(np.count_nonzero(shares == 0)), **_remarks(findings, "empty masks")),
        FindingRow(name="full masks", value=str(np.count_nonzero(shares == 1)), **_remarks(findings, "full masks")),
        FindingRow(
            name="mean gray",
            value=f"foreground {_mean(one.foreground_gray for one in facts)}, "
            f"background {_mean(one.background_gray for one in facts)}",
            **_remarks(findings, "mean gray"),
        ),
        FindingRow(
            name="swapped folders",
            value=f"{images} images look like masks, {labels} labels look like images",
            **_remarks(findings, "swapped folders"),
        ),
        FindingRow(
            name="ignored pixels",
            value=f"{ignored / (counted + ignored):.2%}" if ignored else "0",
            **_remarks(findings, "ignored pixels"),
        ),
    ]


def _labelled_row(seen: Survey, settings: Split) -> FindingRow:
    count = count_unlabelled(seen.tiles, settings)
    text = unlabelled(seen.tiles, settings)
    return FindingRow(
        name="tiles with too few labelled pixels",
        value=str(count),
        warning=f"{text}: label more, or look whether the ignored pixels are the right ones"
        if 2 * count > len(seen.tiles)
        else text,
    )


def _split_rows(seen: Survey, protocol: Protocol) -> list[FindingRow]:
    given, division = any(tile.given for tile in seen.tiles), seen.division
    findings = judge_split(seen.subject.name, seen.tiles, division, protocol) if division is not None else {}
    rows = [_exact_row(seen), _near_row(seen, findings), _labelled_row(seen, protocol.split)]
    if division is None:
        return [*rows, FindingRow(name="split", value="-", problem=seen.shortage)]
    counts = {part: len(getattr(division, part)) for part in PARTS}
    drawn = "as the folders give it" if given else f"by {protocol.split.unit}, seed {protocol.seed}"
    left = len(seen.tiles) - sum(counts.values()) - count_unlabelled(seen.tiles, protocol.split)
    value = ", ".join(f"{count} {part}" for part, count in counts.items()) + f" ({drawn})"
    rows.append(FindingRow(name="split", value=value + (f"; {left} tiles in no part" if left else "")))
    leaks = leakage(seen.tiles, division)
    for name, val, test in (
        ("leakage: frame also trained on", leaks.val_groups, leaks.test_groups),
        ("leakage: looks like a training tile", leaks.val_clusters, leaks.test_clusters),
        ("leakage: touches a training tile", leaks.val_neighbours, leaks.test_neighbours),
    ):
        value = f"val {val} of {counts['val']}, test {test} of {counts['test']}"
        rows.append(FindingRow(name=name, value=value, **_remarks(findings, name)))
    return rows


def _exact_row(seen: Survey) -> FindingRow:
    """Compare pixels as a network gets them: equal bytes give equal pixels, and so do other formats."""
    equal: dict[bytes, list[int]] = defaultdict(list)
    for index, look in enumerate(seen.looks):
        if look.digest:
            equal[look.digest].append(index)
    places: dict[int, set[str]] = defaultdict(set)
    for owner, part in zip(seen.owners, seen.parts, strict=True):
        places[owner] |= {part} if part else set()
    sets = [indices for indices in equal.values() if len(indices) > 1]
    across = [indices for indices in sets if len(set().union(*(places[index] for index in indices))) > 1]
    images, root = [pair.image for pair in seen.scan.pairs], seen.subject.root
    shown = " = ".join(_short(str(images[index]), root) for index in (across or sets or [[]])[0][:MOST_NAMED])
    return FindingRow(
        name="exact duplicates",
        value=_sets("images", sets, across),
        problem=f"{shown}: one part knows the other, keep one of each" if across else "",
        warning=f"{shown}: counted more than once" if sets and not across else "",
    )


def _near_row(seen: Survey, findings: Mapping[str, Finding]) -> FindingRow:
    """Compare thumbnails of tiles; equal images are among those that look alike."""
    value = _sets("tiles", *look_alikes(seen.tiles, seen.division or Division((), (), ())))
    return FindingRow(name="near duplicates", value=value, **_remarks(findings, "near duplicates"))


def _sets(what: str, sets: Sequence[Sequence[int]], across: Sequence[Sequence[int]]) -> str:
    if not sets:
        return "none"
    return f"{sum(map(len, sets))} {what} in {len(sets)} set(s), {len(across)} across parts"


def _overlap_row(seen: Survey, other: Survey) -> FindingRow:
    """Compare with another dataset, tile by tile."""
    pairs = duplicates.overlap(seen.thumbnails, other.thumbnails)
    mine = len({index for index, _ in pairs})
    taught = len({index for index, match in pairs if seen.parts[index] == "test" and other.parts[match] == "train"})
    teach = len({match for index, match in pairs if seen.parts[index] == "train" and other.parts[match] == "test"})
    name, theirs = seen.subject.name, other.subject.name
    return FindingRow(
        name=f"overlap with {theirs}",
        value=f"{mine} of {len(seen.tiles)} tiles look like a tile there; {taught} are test here and training there, "
        f"{teach} of {theirs} are test there and training here",
        warning=f"do not train on {theirs} and test on {name} or the reverse" if taught or teach else "",
    )


def _faults(seen: Survey, *kinds: str) -> tuple[int, str]:
    """Return how many faults of some kinds there are, and the first one's message with the names of others."""
    found = []
    for pair, look in zip(seen.scan.pairs, seen.looks, strict=True):
        files = {"image": pair.image, "ignore": pair.ignore or pair.label}
        found += [(files.get(kind, pair.label), message) for kind, message in look.faults if kind in kinds]
    if not found:
        return 0, ""
    root = seen.subject.root
    others = f"\nalso {_named([path for path, _ in found[1:]], root)}" if len(found) > 1 else ""
    return len(found), _short(found[0][1], root) + others


def _named(paths: Sequence[Path], root: Path) -> str:
    return named([_short(str(path), root) for path in paths])


def _findings(seen: Survey) -> dict[str, Finding]:
    pairs, root = seen.scan.pairs, seen.subject.root
    images, labels = ([_short(str(getattr(pair, kind)), root) for pair in pairs] for kind in ("image", "label"))
    return judge([look.facts for look in seen.looks], images, labels)


def _remarks(findings: Mapping[str, Finding], name: str) -> dict[str, str]:
    """Return the problem or warning of a row, which a pack refuses or notes too."""
    finding = findings.get(name)
    return {"problem" if finding.wrong else "warning": finding.text} if finding else {}


def _short(text: str, root: Path) -> str:
    """Name files relative to the dataset's folder, which the table names already."""
    return text.replace(f"{root}/", "").replace(f"{root}\\", "").replace(f"{root}: ", "")


def _kinds(found: Iterable[str]) -> str:
    """Count equal texts: ``512x512: 40, 96x96: 2``."""
    counts = Counter(found).most_common()
    more = f" and {len(counts) - MOST_KINDS} more kinds" if len(counts) > MOST_KINDS else ""
    return ", ".join(f"{text}: {count}" for text, count in counts[:MOST_KINDS]) + more or "-"


def _mean(values: Iterable[float]) -> str:
    finite = [value for value in values if math.isfinite(value)]
    return f"{sum(finite) / len(finite):.0f}" if finite else "-"
