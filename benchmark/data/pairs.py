"""Finds the images of a dataset's folder with their labels, and its faults."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from benchmark.config.targets import Target, layers_of
from benchmark.data.formats.all_formats import FORMATS, format_of_file, label_suffixes
from benchmark.data.formats.label_format import NO_LEGEND, LabelFormat, Legend
from benchmark.data.formats.masks import PIXELS
from benchmark.data.specs import DatasetSpec
from benchmark.data.splits import PARTS
from benchmark.utils.errors import UserError
from benchmark.utils.files import no_folder
from benchmark.utils.names import comparable
from benchmark.utils.words import counted

# Annotation tools mark a label's file this way.
LABEL_ENDINGS = ("_mask", "_")
SHOWN = 4  # folders that a message lists


@dataclass(frozen=True)
class Pair:
    """One image with its label."""

    name: str  # the image's stem, with its split folder where there is one
    image: Path
    label: Path
    split: str | None  # ``train``, ``val``, ``test``, or ``None`` where the owner gives no division
    group: str  # the source frame; the name itself without a pattern for frames
    ignore: Path | None = None  # mask of pixels that count nowhere
    legend: Legend = NO_LEGEND  # meanings that the dataset's TOML file gives to the label's content
    #: The label of each layer where layers have folders of their own; ``None`` for a layer that is not labelled.
    layer_labels: tuple[tuple[str, Path | None], ...] = ()

    def labels(self, target: Target) -> dict[str, Path | None]:
        """Return the label of each of a target's layers, which may all lie in one file."""
        return dict(self.layer_labels) or dict.fromkeys(layers_of(target), self.label)


@dataclass(frozen=True)
class FolderNames:
    """A layout's folders, and patterns that give the key by which images and labels pair from a file's stem."""

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
    """Content of a dataset's folder, faults included."""

    pairs: list[Pair] = field(default_factory=list)  # images with their labels, sorted by name
    images: int = 0
    labels: int = 0
    ignores: int = 0
    others: int = 0
    folders: list[Path] = field(default_factory=list)  # folders among the files, which are not searched
    unlabelled: list[Path] = field(default_factory=list)  # images without a label
    unpaired: list[Path] = field(default_factory=list)  # labels without an image
    unpaired_ignores: list[Path] = field(default_factory=list)  # masks of ignored pixels without an image
    doubled: list[Path] = field(default_factory=list)  # files with the stem of an earlier file
    misnamed: list[Path] = field(default_factory=list)  # files whose name does not follow the layout
    ungrouped: list[Path] = field(default_factory=list)  # images that the group's pattern does not match
    faults: list[str] = field(default_factory=list)  # messages about the folders themselves


#: Describes a folder that has no other description.
PLAIN = DatasetSpec(name="folder")


def find_pairs(root: Path, spec: DatasetSpec = PLAIN) -> list[Pair]:
    """List the image/label pairs below a dataset's folder, sorted by name.

    A label has its image's stem, perhaps followed by ``_mask`` or ``_``; in the hy5syn layout ``sem0001`` goes with
    ``label0001``. A file of a format that holds many labels, such as COCO's, goes with the images that it names. A
    folder ``ignore/`` beside may hold masks of the images' stems. Layers may have folders of their own, such as
    ``label_track/`` and ``label_via/``; a layer of which an image has no label is ignored there.

    Args:
        root: holds ``image/ label/``, those inside each of ``train/ val/ test/``, or ``sems/ labels/``.
        spec: how the folder is read.

    Raises:
        UserError: no such layout, no pairs, an orphan, duplicate stems, only some of train/val/test, images beside
            them, or a stem that the group's pattern does not match; names the files.
    """
    result = scan(root, spec)
    for fault in result.faults:
        raise UserError(fault)
    for path in result.misnamed:
        raise UserError(f"{path}: expected a name such as sem0001.png beside label0001.svg: rename or remove it")
    for path in result.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(result.unpaired, "label", "image")
    refuse_orphans(result.unpaired_ignores, "ignore mask", "image")
    if spec.unlabelled == "refuse":
        refuse_orphans(result.unlabelled, "image", "label")
    if not result.pairs:
        raise UserError(
            f"{root}: no labels for {counted(result.images, 'image')}; expected a mask for each image that "
            "is to be used: add them"
        )
    for path in result.ungrouped:
        raise UserError(
            f"{path}: the name does not match the dataset's group pattern {spec.group!r}; "
            "expected every image to name its frame: rename the file or correct `group`"
        )
    return result.pairs


def refuse_orphans(orphans: Sequence[Path], kind: str, missing: str) -> None:
    """Refuse files without a partner.

    Raises:
        UserError: names the first file and the number of the others.
    """
    if orphans:
        more = f" (and {len(orphans) - 1} more such)" if len(orphans) > 1 else ""
        raise UserError(
            f"{orphans[0]}: {kind} without {missing}{more}; "
            f"expected a file of the same stem in the folder of {missing}s: add it or remove the {kind}"
        )


def scan(root: Path, spec: DatasetSpec = PLAIN) -> Scan:
    """List a dataset's folder, faults included; arguments as :func:`find_pairs`."""
    result = Scan()
    entries, layers = _entries(root, result), layers_of(spec.target)
    listed = not result.faults
    entry_names = {path.name for path in entries}
    names = LAYOUTS[spec.layout or ("hy5syn" if "sems" in entry_names and "image" not in entry_names else "folders")]
    plain, given = names.image in entry_names, [part for part in PARTS if part in entry_names]
    labels = root / spec.labels if spec.labels else None
    by_layer = {layer: root / spec.layer_labels[layer] for layer in layers if layer in spec.layer_labels}
    if given not in ([], ["test"], list(PARTS)):
        missing = ", ".join(f"{part}/" for part in PARTS if part not in given)
        result.faults.append(
            f"{root}: found {', '.join(f'{part}/' for part in given)} but not {missing}; "
            "expected all of train/ val/ test/, only test/ (for a dataset that is not trained on), or none"
        )
    if given and plain:
        result.faults.append(
            f"{root}: both {names.image}/ and train/ val/ test/; expected one of the two: move the other elsewhere"
        )
    if given and (elsewhere := [*([labels] if labels else []), *by_layer.values()]):
        result.faults.append(
            f"{root}: train/ val/ test/, and labels in {elsewhere[0]}; expected labels inside each of the three: move "
            "them there"
        )
    folders: list[tuple[Path, str | None]] = [(root / part, part) for part in given]
    folders += [(root, None)] if listed and (plain or not given) else []
    for folder, part in folders:
        # A broken link too: its masks would silently be missing.
        ignores = folder / "ignore" if os.path.lexists(folder / "ignore") else None
        single = labels or folder / names.label
        found = {layer: folder / f"label_{layer}" for layer in layers if (folder / f"label_{layer}").is_dir()}
        if found or by_layer:
            of_layers = dict.fromkeys(layers, single) | found | by_layer
            _pair_up_layers(folder / names.image, of_layers, ignores, part, names, spec.group, result)
        else:
            _pair_up((folder / names.image, single, ignores), part, names, spec.group, result, [PIXELS])
    others = [f"{path.name}/" for path in entries if path.is_dir() and not path.name.startswith(".")]
    if others and not given and not plain:
        result.faults[0] += (
            f"; found {', '.join(others[:SHOWN])}: rename them, or see if `benchmark data prepare NEWNAME {root}` "
            "knows these names"
        )
    legend = Legend(tuple(spec.categories.items()), spec.values)
    result.pairs = sorted((replace(pair, legend=legend) for pair in result.pairs), key=lambda pair: pair.name)
    return result


def _pair_up_layers(
    images: Path,
    labels: Mapping[str, Path],
    ignores: Path | None,
    part: str | None,
    names: FolderNames,
    group: str | None,
    result: Scan,
) -> None:
    """Add the pairs and faults of images whose layers are labelled in several folders."""
    scans = {}
    for layer, folder in labels.items():
        scans[layer] = one = Scan()
        _pair_up((images, folder, ignores), part, names, group, one, [PIXELS])
        result.labels += one.labels
        result.unpaired += one.unpaired
        result.faults += [fault for fault in one.faults if fault not in result.faults]
        for kept, new in (
            (result.doubled, one.doubled), (result.misnamed, one.misnamed), (result.ungrouped, one.ungrouped),
            (result.folders, one.folders), (result.unpaired_ignores, one.unpaired_ignores),
        ):  # fmt: skip
            kept += [path for path in new if path not in kept]
    first, *_ = scans.values()
    result.images += first.images
    result.ignores += first.ignores
    result.others += first.others
    without = [set(one.unlabelled) for one in scans.values()]
    result.unlabelled += sorted(set.intersection(*without))
    by_layer = {layer: {pair.name: pair for pair in one.pairs} for layer, one in scans.items()}
    for name in sorted({name: None for pairs in by_layer.values() for name in pairs}):
        pairs = {layer: pairs.get(name) for layer, pairs in by_layer.items()}
        any_pair = next(pair for pair in pairs.values() if pair is not None)
        own = tuple((layer, None if pair is None else pair.label) for layer, pair in pairs.items())
        result.pairs.append(replace(any_pair, layer_labels=own if len(own) > 1 else ()))


def scan_masks(predictions: Path, truths: Path, ignores: Path | None = None, *, group: str | None = None) -> Scan:
    """List the masks of two folders that belong together; predictions take the place of images.

    A name of either may end in ``_mask`` or ``_`` without the other's; HY5SYN's ``sem0001`` goes with ``label0001``.

    ``ignores`` holds masks of ignored pixels, named as the predictions; the first group of the pattern ``group`` on a
    prediction's stem names the source frame.
    """
    result, hy5syn = Scan(), LAYOUTS["hy5syn"]
    fits = all(
        key.fullmatch(path.stem)
        for folder, key in {predictions: hy5syn.image_key, truths: hy5syn.label_key}.items()
        for path in _entries(folder, Scan())
        if path.suffix.lower() in label_suffixes()
    )
    names = LAYOUTS["hy5syn" if fits else "folders"]
    _pair_up((predictions, truths, ignores), None, names, group, result, FORMATS)
    result.pairs.sort(key=lambda pair: pair.name)
    return result


def folders_among(files: Iterable[Path]) -> list[Path]:
    """Return the folders beside files; they are not searched."""
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
    """Add the pairs and faults of folders of images, labels and ignore masks; of scores, images are masks too."""
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
        image = images[key]
        name = f"{part}/{image.stem}" if part else image.stem
        match = re.search(group, image.stem) if group else None
        frame = match.group(1) if match else None
        if group and not frame:
            result.ungrouped.append(image)
        result.pairs.append(Pair(name, image, labels[key], part, frame or name, ignores.get(key)))


def plain_stem(stem: str) -> str:
    """Return a stem without the ending that marks a mask's file."""
    return next((stem.removesuffix(end) for end in LABEL_ENDINGS if stem.endswith(end)), stem)


def _drop_endings(masks: dict[str, Path], others: Collection[str]) -> None:
    """Give masks their plain key where the other side has it."""
    for key in [key for key in masks if key not in others]:
        plain = plain_stem(key)
        if plain in others and plain not in masks:
            masks[plain] = masks.pop(key)


def _by_key(folder: Path, pattern: re.Pattern[str], formats: Sequence[LabelFormat], result: Scan) -> dict[str, Path]:
    """Return the files of some formats in a folder, or the labels in them, by the key that pairs them."""
    files: dict[str, Path] = {}
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
            for label in _labels_in(path, known, result):
                if files.setdefault(comparable(label.stem), label) != label:
                    result.doubled.append(label)
        elif match is None:
            result.misnamed.append(path)
        elif files.setdefault(comparable(match.group(1)), path) != path:
            result.doubled.append(path)
    return files


def _labels_in(file: Path, label_format: LabelFormat, result: Scan) -> list[Path]:
    """Return the labels of a file that holds many; an error becomes a fault of the scan."""
    try:
        labels = label_format.entries(file)
    except UserError as error:
        result.faults.append(str(error))
        return []
    result.others += labels is None
    return labels or []


def _entries(folder: Path, result: Scan) -> list[Path]:
    """List a folder, or a single file that holds many labels in its place; an error becomes a fault of the scan."""
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
