"""Pairs predicted masks with true ones and reads them, layer by layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from benchmark.config.protocol import Evaluation, load_protocol
from benchmark.config.targets import JOIN, Target, layers_of
from benchmark.data.formats.all_formats import format_of, label_suffixes, read_layers
from benchmark.data.formats.images import IMAGE_SUFFIXES, Pixels, UInt8Array, decode, sized
from benchmark.data.formats.label_format import Legend
from benchmark.data.formats.masks import gray_of, read_ignore
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED
from benchmark.data.pairs import Pair, Scan, plain_stem, refuse_orphans, scan_masks
from benchmark.data.specs import check_group, load
from benchmark.evaluation.fault_overlay import Mask
from benchmark.utils.errors import UserError
from benchmark.utils.files import no_folder
from benchmark.utils.names import comparable

#: What folders of single layers begin with, as datasets and the verb ``predict`` name them; either side may have both.
PREFIXES = {"truth": "label_", "prediction": "mask_"}
PROBABILITY = "probability_"  # of gray predictions


@dataclass(frozen=True)
class ScoreSettings:
    """The folders and rules of a score.

    Attributes:
        truth: folder of masks in any form of a dataset's labels, or with a folder for each layer, ``label_via/``.
        prediction: folder of masks in the same forms, or of gray values with a threshold; ``mask_via/`` for a layer.
        ignore: folder of masks of pixels that do not count.
        images: folder of the images, for overlays only.
        target: the scored layers; vias have their own counts.
        threshold: gray predictions are foreground from this share of the brightest possible value on.
        group: pattern on a prediction's stem; its first group is the source frame.
        evaluation: border, least area, skeletons, see :func:`rules_of`.
        values: meaning of the values of true masks, if unusual.
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

    @property
    def layers(self) -> tuple[str, ...]:
        """The scored layers."""
        return layers_of(self.target)

    def folder(self, flag: str, layer: str) -> Path:
        """Return the folder of a layer's masks: its own or, without one, that of all layers."""
        root: Path = getattr(self, flag)
        gray = flag == "prediction" and self.threshold is not None
        return _own_folders(root, gray=gray).get(layer, root)


@dataclass(frozen=True)
class MaskPair:
    """The masks of one image.

    Attributes:
        truths: by layer; ``None`` for a layer that is not labelled and so ignored.
        predictions: by layer; layers may share a file that tells them apart.
        ignore: mask of pixels that count nowhere.
    """

    name: str
    group: str
    truths: Mapping[str, Path | None]
    predictions: Mapping[str, Path]
    ignore: Path | None

    @property
    def truth(self) -> Path:
        """A true mask, whose size all others have."""
        return next(path for path in self.truths.values() if path is not None)


@dataclass(frozen=True, eq=False)
class Masks:
    """The masks of one image and notes about their reading.

    Attributes:
        truths: ``(L, H, W)`` uint8 as in a pack: 0 background, 1 foreground, :data:`~benchmark.data.packs.IGNORED`.
        predictions: ``(L, H, W)`` bool.
    """

    truths: UInt8Array
    predictions: Mask
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


def target_in(truth: Path, prediction: Path, *, gray: bool = False) -> Target:
    """Return the layers with folders of their own below the predictions or else the truths; ``track`` without any."""
    return JOIN.join(_own_folders(prediction, gray=gray) or _own_folders(truth) or ("track",))


def _own_folders(root: Path, *, gray: bool = False) -> dict[str, Path]:
    """Return the folders of single layers below a folder without masks of its own, by layer in the order of names."""
    if not root.is_dir() or any(path.suffix.lower() in label_suffixes(many=True) for path in root.iterdir()):
        return {}
    prefixes = [PROBABILITY] if gray else [*PREFIXES.values()]
    folders = sorted(path for prefix in prefixes for path in root.glob(f"{prefix}?*") if path.is_dir())
    return dict(sorted({path.name.partition("_")[2]: path for path in folders}.items()))


def pair_masks(settings: ScoreSettings) -> list[MaskPair]:
    """Pair predictions with truths by their stems, which may end in ``_mask`` or ``_``.

    Of several layers, an image may lack the true masks of some.

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
    scans = {layer: _scan(settings, layer) for layer in settings.layers}
    labelled = {layer: {comparable(pair.name): pair for pair in scan.pairs} for layer, scan in scans.items()}
    others = {layer: {comparable(path.stem): path for path in scan.unlabelled} for layer, scan in scans.items()}
    names = {name for pairs in labelled.values() for name in pairs}
    for without in others.values():
        refuse_orphans([path for key, path in without.items() if key not in names], "prediction", "truth")
    pairs = [_joined(name, labelled, others, settings) for name in sorted(names)]
    if settings.ignore and not any(pair.ignore for pair in pairs):
        raise UserError(
            f"--ignore {settings.ignore}: no masks; expected some of the predictions' stems: correct the path"
        )
    return sorted(pairs, key=lambda pair: pair.name)


def _scan(settings: ScoreSettings, layer: str) -> Scan:
    """List the masks of a layer; refuse those without a prediction, and faults of the folders."""
    folders = {flag: settings.folder(flag, layer) for flag in ("prediction", "truth")}
    scan = scan_masks(folders["prediction"], folders["truth"], settings.ignore, group=settings.group)
    for flag, count in (("prediction", scan.images), ("truth", scan.labels)):
        if not count:
            prefix = PROBABILITY if flag == "prediction" and settings.threshold is not None else PREFIXES[flag]
            of_layers = f", or a folder {prefix}{layer}/" if len(settings.layers) > 1 else ""
            inner = [path.parent for path in folders[flag].glob("*/*") if path.suffix.lower() in label_suffixes()]
            raise UserError(
                f"--{flag} {folders[flag]}: no masks; expected files that end in "
                f"{', '.join(sorted(label_suffixes()))}{of_layers}"
                + f" (there are some in {', '.join(sorted(map(str, set(inner))))})"
                * bool(inner)
            )
    for fault in scan.faults:
        raise UserError(fault)
    for path in scan.doubled:
        raise UserError(f"{path}: another file has the stem {path.stem!r}; keep one of them")
    refuse_orphans(scan.unpaired, "truth", "prediction")
    refuse_orphans(scan.unpaired_ignores, "ignore mask", "prediction")
    for path in scan.ungrouped:
        raise UserError(f"{path}: the name does not match --group {settings.group!r}; correct the pattern")
    return scan


def _joined(
    name: str,
    labelled: Mapping[str, Mapping[str, Pair]],
    others: Mapping[str, Mapping[str, Path]],
    settings: ScoreSettings,
) -> MaskPair:
    """Return the masks of one image from the pairs, and the predictions without truth, of all layers."""
    pairs = {layer: of_layer.get(name) for layer, of_layer in labelled.items()}
    first = next(pair for pair in pairs.values() if pair is not None)
    predictions = {layer: pair.image if pair else others[layer].get(name) for layer, pair in pairs.items()}
    for layer, path in predictions.items():
        if path is None:
            raise UserError(
                f"{settings.folder('prediction', layer)}: no prediction {first.image.stem!r} of the layer {layer}; "
                f"expected one beside {first.image}: add it, or score fewer layers with --target"
            )
    return MaskPair(
        first.name,
        first.group,
        {layer: pair.label if pair else None for layer, pair in pairs.items()},
        {layer: path for layer, path in predictions.items() if path is not None},
        first.ignore,
    )


def read_pair(pair: MaskPair, settings: ScoreSettings) -> Masks:
    """Read the masks of an image.

    Raises:
        UserError: a mask cannot be read, has another size than the truth, or values that are not those of a mask.
    """
    shape = format_of(pair.truth).size(pair.truth)
    for path in dict.fromkeys((*pair.truths.values(), *pair.predictions.values())):
        if path is not None and (size := format_of(path).size(path)) != shape:
            raise UserError(sizes_differ(path, size, pair.truth, shape))
    labels = read_layers(pair.truths, shape, Legend(values=settings.values))
    notes = [f"{path}: {labels[layer].note}" for layer, path in pair.truths.items() if labels[layer].note]
    if settings.threshold is not None:
        if shared := [path for path in pair.predictions.values() if [*pair.predictions.values()].count(path) > 1]:
            raise UserError(
                f"{shared[0]}: gray values of {' and '.join(settings.layers)} in one file; expected a folder for "
                f"each: {', '.join(f'{PROBABILITY}{layer}/' for layer in settings.layers)}"
            )
        predictions = [thresholded(path, settings.threshold) for path in pair.predictions.values()]
    else:
        read = read_layers(pair.predictions, shape)
        predictions = [label.mask for label in read.values()]
        notes += [f"{path}: {read[layer].note}" for layer, path in pair.predictions.items() if read[layer].note]
    truths = np.stack([label.mask for label in labels.values()]).astype(np.uint8)
    for truth, label in zip(truths, labels.values(), strict=True):
        if label.ignored is not None:
            truth[label.ignored] = IGNORED
    if pair.ignore is not None:
        truths[:, read_ignore(pair.ignore, shape)] = IGNORED
    return Masks(truths, np.stack(predictions), list(dict.fromkeys(notes)))


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


def sizes_differ(path: Path, size: tuple[int, ...], truth: Path, expected: tuple[int, ...]) -> str:
    """Return the message about a file of another height and width than its truth."""
    return (
        f"{path}: {sized(size)} pixels, but its truth {truth} has {sized(expected)}; "
        "expected the same size: export it at that size"
    )


def images_of(pairs: Iterable[MaskPair], folder: Path | None) -> dict[str, Path]:
    """Return the image of each pair by the pair's name, or else by the name without ``_mask``.

    Raises:
        UserError: an image is missing.
    """
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
