"""Finds the images of a dataset's folder with their labels, and its faults."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.data.formats.all_formats import FORMATS, format_of_file, label_suffixes
from benchmark.data.formats.label_format import NO_LEGEND, LabelFormat, Legend
from benchmark.data.formats.masks import PIXELS
from benchmark.data.specs import DatasetSpec
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError
from benchmark.utils.files import no_folder
from benchmark.utils.names import comparable

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
        legend: meanings that the dataset's TOML file gives to the label's content.
    """

    name: str
    image: Path
    label: Path
    split: str | None
    group: str
    ignore: Path | None = None
    legend: Legend = NO_LEGEND


@dataclass(frozen=True)
class FolderNames:
    """What a layout calls its folders, and how a file's stem becomes the key that pairs image and label."""

    image: str
    label: str
    image_key: re.Pattern[str]
    label_key: re.Pattern[str]


ANY = re.compile("(.*)", re.DOTALL)
LAYOUTS: Mapping[str, FolderNames] = {
    "folders": FolderNames("image", "label", ANY, ANY),
    "hy5syn": FolderNames("sems", "labels", re.compile("sem(.+)"), re.compile("label(.+)")),
}


@dataclass
class Scan:
    """Content of a dataset's folder, faults included.

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


#: How a folder is read that nothing else describes.
PLAIN = DatasetSpec(name="folder")


def find_pairs(root: Path, spec: DatasetSpec = PLAIN) -> list[Pair]:
    """List the image/label pairs below a dataset's folder, sorted by name.

    A label has its image's stem, perhaps followed by ``_mask`` or ``_``; in the hy5syn layout ``sem0001`` goes with
    ``label0001``. A file of a format that holds many labels, such as COCO's, goes with the images that it names. A
    folder ``ignore/`` beside may hold masks of the images' stems.

    Args:
        root: holds ``image/ label/``, those inside each of ``train/ val/ test/``, or ``sems/ labels/``.
        spec: says how the folder is read.

    Raises:
        UserError: no such layout, no pairs, an orphan, duplicate stems, only some of train/val/test, images beside
            them, or a stem that the group's pattern does not match; names the files.
    """
    found = scan(root, spec)
    for fault in found.faults:
        raise UserError(fault)
    for path in found.misnamed:
        raise UserError(f"{path}: expected a name such as sem0001.png beside label0001.svg: rename or remove it")
    for path in found.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(found.unpaired, "label", "image")
    refuse_orphans(found.unpaired_ignores, "ignore mask", "image")
    if spec.unlabelled == "refuse":
        refuse_orphans(found.unlabelled, "image", "label")
    if not found.pairs:
        raise UserError(
            f"{root}: no labels for {found.images} images; expected a mask for each image that is to be used: add them"
        )
    for path in found.ungrouped:
        raise UserError(
            f"{path}: the name does not match the dataset's group pattern {spec.group!r}; "
            "expected every image to name its frame: rename the file or correct `group`"
        )
    return found.pairs


def refuse_orphans(orphans: Sequence[Path], what: str, missing: str) -> None:
    """Name the first file that has no partner, and how many more there are.

    Raises:
        UserError: there is one.
    """
    if orphans:
        more = f" (and {len(orphans) - 1} more such)" if len(orphans) > 1 else ""
        raise UserError(
            f"{orphans[0]}: {what} without {missing}{more}; "
            f"expected a file of the same stem in the folder of {missing}s: add it or remove the {what}"
        )


def scan(root: Path, spec: DatasetSpec = PLAIN) -> Scan:
    """List a dataset's folder, faults included; the arguments are those of :func:`find_pairs`."""
    result = Scan()
    entries = _entries(root, result)
    found = {path.name for path in entries}
    unlisted = bool(result.faults)
    names = LAYOUTS[spec.layout or ("hy5syn" if "sems" in found and "image" not in found else "folders")]
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
    labels = root / spec.labels if spec.labels else None
    if given and labels is not None:
        result.faults.append(
            f"{root}: train/ val/ test/, and labels in {labels}; expected labels inside each of the three: move them "
            "there"
        )
    places: list[tuple[Path, str | None]] = [(root / part, part) for part in given]
    if not unlisted and (not given or names.image in found):
        places.append((root, None))
    for folder, part in places:
        # A broken link too: its masks would silently be missing.
        ignores = folder / "ignore" if os.path.lexists(folder / "ignore") else None
        parts = (folder / names.image, labels or folder / names.label, ignores)
        _pair_up(parts, part, names, spec.group, result, [PIXELS])
    folders = [f"{path.name}/" for path in entries if path.is_dir() and not path.name.startswith(".")]
    if folders and not given and names.image not in found:
        result.faults[0] += (
            f"; found {', '.join(folders[:SHOWN])}: rename them, or see if `benchmark data prepare NEWNAME {root}` "
            "knows these names"
        )
    legend = Legend(tuple(spec.categories.items()), spec.values)
    result.pairs = [replace(pair, legend=legend) for pair in result.pairs]
    result.pairs.sort(key=lambda pair: pair.name)
    return result


def scan_masks(predictions: Path, truths: Path, ignores: Path | None = None, *, group: str | None = None) -> Scan:
    """List the masks of two folders that belong together; predictions stand in the place of images.

    Either may end in ``_mask`` or ``_`` where the other does not; HY5SYN's ``sem0001`` goes with ``label0001``.

    Args:
        predictions: folder of masks.
        truths: folder of masks.
        ignores: folder of masks of ignored pixels, named as the predictions.
        group: pattern on a prediction's stem whose first group names the source frame.
    """
    result, hy5syn = Scan(), LAYOUTS["hy5syn"]
    keys = {predictions: hy5syn.image_key, truths: hy5syn.label_key}
    fits = all(
        key.fullmatch(path.stem)
        for folder, key in keys.items()
        for path in _entries(folder, Scan())
        if path.suffix.lower() in label_suffixes()
    )
    names = LAYOUTS["hy5syn" if fits else "folders"]
    _pair_up((predictions, truths, ignores), None, names, group, result, FORMATS)
    result.pairs.sort(key=lambda pair: pair.name)
    return result


def folders_among(files: Iterable[Path]) -> list[Path]:
    """Return the folders that lie beside files; they are not searched."""
    beside = (path for folder in sorted({file.parent for file in files}) for path in sorted(folder.iterdir()))
    return [path for path in beside if path.is_dir() and not path.name.startswith(".")]


def _pair_up(
    folders: tuple[Path, Path, Path | None],
    part: str | None,
    names: FolderNames,
    group: str | None,
    result: Scan,
    image_formats: Sequence[LabelFormat],
) -> None:
    """Add the pairs and faults of folders of images, labels and ignore masks; images may be masks themselves."""
    faults = len(result.faults)
    images = _by_key(folders[0], names.image_key, image_formats, result)
    if not images and len(result.faults) == faults:
        result.faults.append(
            f"{folders[0]}: no images; expected {names.image}/<name>.png beside {names.label}/<name>.png "
            "(or .jpg, .bmp, .tif)"
        )
    labels = _by_key(folders[1], names.label_key, FORMATS, result)
    ignores = _by_key(folders[2], names.image_key, [PIXELS], result) if folders[2] else {}
    result.images += len(images)
    result.labels += len(labels)
    result.ignores += len(ignores)
    _drop_endings(labels, images)
    if image_formats is FORMATS:
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


def _by_key(folder: Path, pattern: re.Pattern[str], formats: Sequence[LabelFormat], result: Scan) -> dict[str, Path]:
    """Return the files of some formats in a folder, or their entries, by the key that pairs them."""
    found: dict[str, Path] = {}
    for path in _entries(folder, result):
        if path.name.startswith("."):
            continue
        known = format_of_file(path, formats)
        match = pattern.fullmatch(path.stem)
        if known is None and path.is_dir():
            result.folders.append(path)
        elif known is None:
            result.others += 1
        elif known.holds_many:
            for entry in _labels_in(path, known, result):
                if found.setdefault(comparable(entry.stem), entry) != entry:
                    result.doubled.append(entry)
        elif match is None:
            result.misnamed.append(path)
        elif found.setdefault(comparable(match.group(1)), path) != path:
            result.doubled.append(path)
    return found


def _labels_in(file: Path, label_format: LabelFormat, result: Scan) -> list[Path]:
    """Return the labels of a file that holds many, or note why it has none."""
    try:
        labels = label_format.entries(file)
    except UserError as error:
        result.faults.append(str(error))
        return []
    result.others += labels is None
    return labels or []


def _entries(folder: Path, result: Scan) -> list[Path]:
    try:
        known = format_of_file(folder)
        if known is not None and known.holds_many and folder.is_file():
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
