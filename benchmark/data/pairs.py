"""Listing a dataset's folder without refusing anything: the pairs that are there, and all that stands in the way."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.data.formats import coco
from benchmark.data.formats.coco import Categories
from benchmark.data.formats.images import IMAGE_SUFFIXES
from benchmark.data.formats.values import Values
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError
from benchmark.utils.files import no_folder
from benchmark.utils.names import comparable

LABEL_SUFFIX = ".svg"  # of labels only
MASK_SUFFIXES = IMAGE_SUFFIXES | {LABEL_SUFFIX}
# Annotation tools mark a label's file this way.
LABEL_ENDINGS = ("_mask", "_")
SHOWN = 4  # folders that a message lists


@dataclass(frozen=True)
class Pair:
    """One image with its label.

    Attributes:
        name: the image's stem, with its split folder where there is one.
        split: ``train``, ``val``, ``test``, or ``None`` where the owner gives no division.
        group: the source frame; the name itself where nothing tells frames apart.
        ignore: mask of pixels that count nowhere.
        categories: what a COCO label's categories are, where their names do not tell.
        values: what the values of a mask of pixels mean, where they are not the usual ones.
    """

    name: str
    image: Path
    label: Path
    split: str | None
    group: str
    ignore: Path | None = None
    categories: Categories = ()
    values: Values | None = None


@dataclass(frozen=True)
class Names:
    """What a layout calls its folders, and how a file's stem becomes the key that pairs image and label."""

    image: str
    label: str
    image_key: re.Pattern[str]
    label_key: re.Pattern[str]


ANY = re.compile("(.*)", re.DOTALL)
LAYOUTS: Mapping[str, Names] = {
    "folders": Names("image", "label", ANY, ANY),
    "hy5syn": Names("sems", "labels", re.compile("sem(.+)"), re.compile("label(.+)")),
}


@dataclass
class Scan:
    """What lies in a dataset's folder; :func:`benchmark.data.fingerprint.find_pairs` refuses the first fault instead.

    Attributes:
        pairs: images with their labels, sorted by name.
        images: number of image files.
        labels: number of label files.
        ignores: number of masks of ignored pixels.
        others: number of files that are neither.
        folders: folders among the files, which are not searched.
        unlabelled: images without a label.
        unpaired: labels without an image.
        unpaired_ignores: masks of ignored pixels without an image.
        doubled: files whose stem another file before them has.
        misnamed: files whose name does not follow the layout.
        ungrouped: images whose name the group's pattern does not match; each is a frame of its own here.
        faults: what is wrong with the folders themselves: where, what was found, what was expected and the remedy.
    """

    pairs: list[Pair] = field(default_factory=list)
    images: int = 0
    labels: int = 0
    ignores: int = 0
    others: int = 0
    folders: list[Path] = field(default_factory=list)
    unlabelled: list[Path] = field(default_factory=list)
    unpaired: list[Path] = field(default_factory=list)
    unpaired_ignores: list[Path] = field(default_factory=list)
    doubled: list[Path] = field(default_factory=list)
    misnamed: list[Path] = field(default_factory=list)
    ungrouped: list[Path] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def scan(
    root: Path,
    *,
    layout: str | None = None,
    group: str | None = None,
    labels: Path | None = None,
    categories: Categories = (),
    values: Values | None = None,
) -> Scan:
    """List a dataset's folder, faults included. Arguments: see :func:`benchmark.data.fingerprint.find_pairs`."""
    result = Scan()
    entries = _entries(root, result)
    found = {path.name for path in entries}
    unlisted = bool(result.faults)
    names = LAYOUTS[layout or ("hy5syn" if "sems" in found and "image" not in found else "folders")]
    given = [part for part in PARTS if part in found]
    if given and len(given) < len(PARTS):
        missing = ", ".join(f"{part}/" for part in PARTS if part not in given)
        result.faults.append(
            f"{root}: found {', '.join(f'{part}/' for part in given)} but not {missing}; "
            "expected all of train/ val/ test/, or none"
        )
    if given and names.image in found:
        result.faults.append(
            f"{root}: both {names.image}/ and train/ val/ test/; expected one of the two: move the other elsewhere"
        )
    if given and labels is not None:
        result.faults.append(
            f"{root}: train/ val/ test/, and labels in {labels}; expected labels inside each of the three: move them "
            "there"
        )
    places: list[tuple[Path, str | None]] = [(root / part, part) for part in given]
    if not unlisted and (not given or names.image in found):
        places.append((root, None))
    for folder, part in places:
        _scan_part(folder, part, names, group, result, labels)
    folders = [f"{path.name}/" for path in entries if path.is_dir() and not path.name.startswith(".")]
    if folders and not given and names.image not in found:
        result.faults[0] += (
            f"; found {', '.join(folders[:SHOWN])}: rename them, or see if `benchmark data prepare NEWNAME {root}` "
            "knows these names"
        )
    result.pairs = [replace(pair, categories=categories, values=values) for pair in result.pairs]
    result.pairs.sort(key=lambda pair: pair.name)
    return result


def scan_masks(predictions: Path, truths: Path, ignores: Path | None = None, *, group: str | None = None) -> Scan:
    """List the masks of two folders that belong together; predictions stand in the place of images.

    Either may end in ``_mask`` or ``_`` where the other does not; HY5SYN's ``sem0001`` goes with ``label0001``.

    Args:
        predictions: folder of masks.
        truths: folder of masks.
        ignores: folder of masks of ignored pixels, named as the predictions.
        group: as in :func:`scan`.
    """
    result, hy5syn = Scan(), LAYOUTS["hy5syn"]
    keys = {predictions: hy5syn.image_key, truths: hy5syn.label_key}
    fits = all(
        key.fullmatch(path.stem)
        for folder, key in keys.items()
        for path in _entries(folder, Scan())
        if path.suffix.lower() in MASK_SUFFIXES
    )
    names = LAYOUTS["hy5syn" if fits else "folders"]
    _pair_up((predictions, truths, ignores), None, names, group, result, MASK_SUFFIXES)
    result.pairs.sort(key=lambda pair: pair.name)
    return result


def folders_among(files: Iterable[Path]) -> list[Path]:
    """Return the folders that lie beside files; they are not searched."""
    beside = (path for folder in sorted({file.parent for file in files}) for path in sorted(folder.iterdir()))
    return [path for path in beside if path.is_dir() and not path.name.startswith(".")]


def _scan_part(
    folder: Path, part: str | None, names: Names, group: str | None, result: Scan, labels: Path | None
) -> None:
    """Add the pairs and faults of one folder that holds images and, unless they lie elsewhere, labels side by side."""
    # A broken link too: its masks would silently be missing.
    ignores = folder / "ignore" if os.path.lexists(folder / "ignore") else None
    _pair_up(
        (folder / names.image, labels or folder / names.label, ignores), part, names, group, result, IMAGE_SUFFIXES
    )


def _pair_up(
    folders: tuple[Path, Path, Path | None],
    part: str | None,
    names: Names,
    group: str | None,
    result: Scan,
    image_suffixes: Collection[str],
) -> None:
    """Add the pairs and faults of folders of images, labels and ignore masks."""
    faults = len(result.faults)
    images = _by_key(folders[0], names.image_key, image_suffixes, result)
    if not images and len(result.faults) == faults:
        result.faults.append(
            f"{folders[0]}: no images; expected {names.image}/<name>.png beside {names.label}/<name>.png "
            "(or .jpg, .bmp, .tif)"
        )
    labels = _by_key(folders[1], names.label_key, MASK_SUFFIXES, result)
    ignores = _by_key(folders[2], names.image_key, IMAGE_SUFFIXES, result) if folders[2] else {}
    result.images += len(images)
    result.labels += len(labels)
    result.ignores += len(ignores)
    _drop_endings(labels, images)
    if image_suffixes == MASK_SUFFIXES:
        _drop_endings(images, labels)
        _drop_endings(ignores, images)
    result.unlabelled += [images[key] for key in sorted(images.keys() - labels.keys())]
    result.unpaired += [labels[key] for key in sorted(labels.keys() - images.keys())]
    result.unpaired_ignores += [ignores[key] for key in sorted(ignores.keys() - images.keys())]
    for key in sorted(images.keys() & labels.keys()):
        name = f"{part}/{images[key].stem}" if part else images[key].stem
        frame = re.search(group, images[key].stem) if group else None
        if group and (frame is None or not frame.group(1)):
            result.ungrouped.append(images[key])
            frame = None
        result.pairs.append(
            Pair(name, images[key], labels[key], part, frame.group(1) if frame else name, ignores.get(key))
        )


def plain_stem(stem: str) -> str:
    """Return a stem without the ending that marks a mask's file."""
    return next((stem.removesuffix(end) for end in LABEL_ENDINGS if stem.endswith(end)), stem)


def _drop_endings(masks: dict[str, Path], others: Collection[str]) -> None:
    """Call masks by the plain key that something has on the other side."""
    for key in [key for key in masks if key not in others]:
        plain = plain_stem(key)
        if plain in others and plain not in masks:
            masks[plain] = masks.pop(key)


def _by_key(folder: Path, pattern: re.Pattern[str], suffixes: Collection[str], result: Scan) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in _entries(folder, result):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() == coco.SUFFIX and suffixes == MASK_SUFFIXES:
            _add_coco(path, found, result)
            continue
        if path.suffix.lower() not in suffixes:
            if path.is_dir():
                result.folders.append(path)
            else:
                result.others += 1
            continue
        match = pattern.fullmatch(path.stem)
        if match is None:
            result.misnamed.append(path)
        elif found.setdefault(comparable(match.group(1)), path) != path:
            result.doubled.append(path)
    return found


def _add_coco(file: Path, found: dict[str, Path], result: Scan) -> None:
    """Add the labels of a JSON file; one that is no COCO file lies there for another purpose."""
    try:
        labels = coco.entries(file)
    except UserError as error:
        result.faults.append(str(error))
        return
    result.others += labels is None
    for label in labels or ():
        if found.setdefault(comparable(label.stem), label) != label:
            result.doubled.append(label)


def _entries(folder: Path, result: Scan) -> list[Path]:
    try:
        if folder.suffix.lower() == coco.SUFFIX and folder.is_file():
            return [folder]
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        result.faults.append(
            f"{folder}: {no_folder(folder)}; expected image/ and label/, alone or inside each of train/ val/ test/, "
            "or sems/ and labels/"
        )
    except OSError as error:  # also a loop of links
        result.faults.append(f"{folder}: cannot be listed ({error.strerror}); check its permissions")
    return []
