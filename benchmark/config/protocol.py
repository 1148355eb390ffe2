"""Defines protocols: validated settings that determine a study's numbers."""

from __future__ import annotations

import difflib
import hashlib
import json
import tomllib
from collections.abc import Iterable, Mapping, Set
from importlib import resources
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, Self, get_args

import tomli_w
from pydantic import BaseModel, Field, ValidationError, model_validator

from benchmark.config import extension_code, unused_settings
from benchmark.config.setting_types import ByDataset, Determinism, Images, SettingsModel, Share, Side
from benchmark.config.targets import Target
from benchmark.config.training_settings import Loss, Photometric, Training
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_toml, toml_value

#: Settings without an effect on a single run's numbers.
HARMLESS = frozenset({"name", "repeats", "efficiency", "report"})
#: What a protocol holds and nobody sets.
FILLED_IN = frozenset({"extensions"})
PRESETS = ("paper", "strict", "small", "quick", "standins", "open")


class Split(SettingsModel):
    """The division of a dataset's images; train/val/test folders of a dataset take precedence."""

    unit: Literal["image", "group", "block"] = Field(
        description="what is drawn: single images, all images of a source frame, or stripes of each frame with gaps"
    )
    near_duplicates: Literal["apart", "together"] = Field(
        "apart", description="together: images that look alike never end on both sides of the split"
    )
    validation: Share = Field(0.1, description="share of the units for validation; with 0 the last weights are kept")
    test: Share = Field(0.1, description="share of the units for the test; with 0 nothing is tested")
    counts: Annotated[tuple[int, int, int], Field(strict=False)] | None = Field(  # TOML has lists only
        None, description="exact numbers of train, validation and test images instead of shares"
    )
    folds: int | None = Field(
        None, ge=2, description="cross-validation: all images in so many folds, repeat i is tested on fold i"
    )
    min_labelled: Share = Field(
        0.1,
        description="tiles are left out where less of them, or of their centred input, is labelled (not ignored); "
        "training crops hold as much",
    )

    @model_validator(mode="after")
    def _something_is_left_to_train_on(self) -> Self:
        if self.folds is None and self.validation + self.test >= 1:
            raise ValueError("split.validation + split.test must leave images to train on (sum below 1)")
        if self.counts is not None and (min(self.counts) < 0 or self.counts[0] < 1):
            raise ValueError(
                f"split.counts needs at least one training image and no negative number, found {self.counts}"
            )
        return self

    @model_validator(mode="after")
    def _folds_hold_all_images(self) -> Self:
        if self.folds is not None and self.counts is not None:
            raise ValueError(
                f"split.folds has every image in a test once, but split.counts asks for {list(self.counts)} images; "
                "add --set split.counts=none"
            )
        if self.folds is not None and self.unit == "block":
            raise ValueError(
                "split.folds has every image in a test once, but split.unit = block leaves gaps; "
                "use --set split.unit=group or image"
            )
        return self


class Input(SettingsModel):
    """The input of networks."""

    size: Side = Field(512, description="height and width of a network's input, pixels")
    size_by_dataset: ByDataset[Side] = Field({}, description="exceptions to `size`, by dataset")
    own_sizes: bool = Field(True, description="whether the size that a dataset is registered with replaces `size`")
    tile: Side | None = Field(
        None, description="side of the tiles that packs hold; larger than the input, each step takes a random crop"
    )
    tile_by_dataset: ByDataset[Side] = Field({}, description="exceptions to `tile`, by dataset")
    partial_tiles: bool = Field(
        False, description="keep what is left at the right and below, moved inwards to full size"
    )
    channels: Literal[1, 3] = Field(1, description="1: gray (RGB by luma); 3: RGB")
    channels_by_dataset: ByDataset[Literal[1, 3]] = Field({}, description="exceptions to `channels`, by dataset")

    def size_for(self, dataset: str) -> int:
        """Return the input's side for a dataset, also for its stand-in."""
        return self.size_by_dataset.get(dataset.removesuffix("-syn"), self.size)

    def channels_for(self, dataset: str) -> Literal[1, 3]:
        """Return the number of the input's channels for a dataset."""
        return self.channels_by_dataset.get(dataset.removesuffix("-syn"), self.channels)

    def tile_for(self, dataset: str) -> int:
        """Return the side of the tiles that a dataset's images are cut into."""
        return max(self.tile_by_dataset.get(dataset.removesuffix("-syn"), self.tile or 0), self.size_for(dataset))


class Evaluation(SettingsModel):
    """The rules of a test's counts."""

    batch: int = Field(1, ge=1)
    window: Literal["input", "tile", "block"] = Field(
        "input",
        description="what the test predicts: the centred window of the input's size, the whole tile, or all test tiles "
        "of a frame joined to a block, by a sliding window of the input's size",
    )
    threshold: float = Field(0.5, gt=0, lt=1, description="of the foreground's probability")
    border_px: int = Field(35, ge=0, description="band in which the electrical metrics forgive")
    min_area_px: int = Field(35, ge=1, description="smaller predicted components count where no larger one hits a net")
    cldice: bool = Field(False, description="count skeletons for clDice too: 30 to 100 ms per image instead of one")


class Data(SettingsModel):
    """The layers that networks mark, and the size of stand-ins."""

    target: Target | None = Field(
        None,
        description="the layers that a network marks, joined by +, such as track+via; by default each dataset's own",
    )
    hy5syn_target: Literal["metal", "track", "via"] = Field(
        "metal", description="of hy5syn without `target`; earlier releases had only this"
    )
    standin_images: Images = 400
    standin_images_by_dataset: ByDataset[Images] = Field({}, description="exceptions to `standin_images`, by dataset")

    def target_for(self, dataset: str, own: Target) -> Target:
        """Return the target of a dataset whose own is ``own``."""
        return self.target or (self.hy5syn_target if dataset == "hy5syn" else own)

    def standin_count(self, dataset: str) -> int:
        """Return how many images (frames for hy5syn) a dataset's stand-in has."""
        return self.standin_images_by_dataset.get(dataset.removesuffix("-syn"), self.standin_images)


class Efficiency(SettingsModel):
    """The time for efficiency figures; they do not affect records of runs."""

    budget_seconds: float | None = Field(
        None, gt=0, description="limit of each network's warm-up, timings and throughput together"
    )


class Report(SettingsModel):
    """Settings of tables and pictures; they do not affect records."""

    reduction: Literal["image", "pooled"] = Field("image", description="mean of per-image values, or ratio of sums")
    panels: int = Field(
        12,
        ge=0,
        le=64,
        description="test images of each dataset that a study keeps, with every run's predictions, to show the hardest "
        "and easiest of them; 0 keeps none",
    )


class Protocol(SettingsModel):
    """All settings of a study; a run's key ignores those in :data:`HARMLESS`."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    seed: int = Field(0, ge=0, description="the base seed that every random draw derives from")
    repeats: int = Field(3, ge=1, description="of each training; by default as many as split.folds, if there are folds")
    determinism: Determinism = Field(
        "seeded", description="seeded: fixed seeds, fast kernels; deterministic: only kernels that repeat bit for bit"
    )
    split: Split
    input: Input = Input()
    training: Training = Training()
    photometric: Photometric = Photometric()
    loss: Loss = Loss()
    evaluation: Evaluation = Evaluation()
    data: Data = Data()
    extensions: dict[str, str] = Field(
        {},
        description="code of the installed packages' losses and transforms in use, and the hash of the encoder's "
        "weights; filled in, never set",
    )
    efficiency: Efficiency = Efficiency()
    report: Report = Report()

    @model_validator(mode="after")
    def _gaps_stay_whole(self) -> Self:
        if self.split.unit == "block" and self.input.partial_tiles:
            raise ValueError(
                "split.unit = block needs whole tiles, or the gap between its parts would shrink; "
                "leave input.partial_tiles at false"
            )
        return self

    @model_validator(mode="after")
    def _blocks_are_whole(self) -> Self:
        for path, value in {"training.crops": self.training.crops, "evaluation.window": self.evaluation.window}.items():
            if value == "block" and self.input.partial_tiles:
                raise ValueError(f"{path} = block joins tiles side by side; leave input.partial_tiles at false")
        if self.evaluation.window == "block" and self.split.unit == "image":
            raise ValueError(
                "evaluation.window = block joins the test tiles of a frame, and split.unit = image puts training tiles "
                "between them; use split.unit = block or group"
            )
        return self

    def digest(self) -> str:
        """Return a hash of all settings that can change a run's numbers.

        Defaults are left out, so that finished runs stay valid when a release adds a setting; a release that changes a
        default raises :data:`benchmark.BEHAVIOUR`.
        """
        fields = self.compared(HARMLESS, exclude_defaults=True)
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]

    def compared(self, ignored: Set[str], *, exclude_defaults: bool = False) -> dict[str, Any]:
        """Return the settings as two protocols are compared: a file by its content, wherever it lies."""
        fields = self.model_dump(mode="json", exclude=set(ignored), exclude_defaults=exclude_defaults)
        if self.training.encoder_file and "training" in fields:  # `extensions` has its hash
            fields["training"]["encoder_weights"] = "file"
        return fields

    def to_toml(self) -> str:
        """Return the settings as TOML without unset optional fields, since TOML has no null."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def load_protocol(source: str | Path, overrides: Iterable[str] = (), *, stored: bool = False) -> Protocol:
    """Return a preset or a protocol file with ``path=value`` overrides applied.

    Args:
        source: a name of :data:`PRESETS` or the path of a TOML file.
        overrides: values of ``--set``, such as ``training.lr=5e-4`` or ``split.counts=[40,4,4]``.
        stored: whether it is a study's own file, possibly of an earlier release.

    Raises:
        UserError: unknown preset, unreadable file, field that is unknown (with the nearest valid field), has a wrong
            type or would have no effect.
    """
    name, written = str(source), dict[str, str]()
    if name in PRESETS:
        origin = f"preset {name!r}"
        fields = tomllib.loads(resources.files("benchmark.config").joinpath(f"presets/{name}.toml").read_text("utf-8"))
    elif Path(source).is_file():
        origin = f"protocol {name!r}"
        fields = read_toml(Path(source), origin)
        if stored and isinstance(fields.get("deterministic"), bool):  # its name in the first studies
            fields["determinism"] = "deterministic" if fields.pop("deterministic") else "seeded"
        if not stored:
            for path in FILLED_IN:  # a study's own file as the protocol of a new one
                fields.pop(path, None)
            # Earlier releases wrote settings without an effect into a study's file.
            defaults = flatten_settings(Protocol(name="defaults", split=Split(unit="image")).model_dump(mode="json"))
            written = {
                path: f"{origin}: {path} = {value!r}"
                for path, value in flatten_settings(fields).items()
                if defaults.get(path) != value
            }
    else:
        raise UserError(
            f"unknown protocol {name!r}{did_you_mean(name, PRESETS)} (known: {', '.join(PRESETS)}, or a .toml file)"
        )
    overrides = list(overrides)
    given = unused_settings.flags_by_path(overrides)
    repeats_are_asked_for = "repeats" in given or ("repeats" in fields and "split.folds" not in given)
    for override in overrides:
        _apply(fields, override)
    for setting in ("lr", "steps"):
        own = f"{setting}_by_model"
        if f"training.{setting}" in given and not any(path.startswith(f"training.{own}") for path in given):
            fields["training"].pop(own, None)  # a number for all networks replaces a preset's exceptions too
    if isinstance(folds := flatten_settings(fields).get("split.folds"), int) and not repeats_are_asked_for:
        fields["repeats"] = folds
    try:
        protocol = Protocol.model_validate(fields)
    except ValidationError as error:
        wrong = [".".join(map(str, problem["loc"])) for problem in error.errors(include_url=False)]
        # A problem of several settings together has the path of their group.
        flags = [flag for path, flag in given.items() if any(f"{path}.".startswith(f"{group}.") for group in wrong)]
        raise UserError(f"{' and '.join(flags) or origin}: {_explain(error)}") from error
    if (count := protocol.split.folds) is not None and protocol.repeats > count:
        raise UserError(
            f"repeats={protocol.repeats}, split.folds={count}: each repeat is tested on a fold of its own; ask for "
            f"{count} repeats at most, or leave their number out"
        )
    code = {} if stored else extension_code.identities(protocol)  # a wrong name before settings of the right one
    unused_settings.refuse({**written, **given}, protocol)
    return protocol.model_copy(update={"extensions": code}) if code else protocol


def protocol_differences(old: Protocol, new: Protocol, ignored: Set[str] = HARMLESS) -> list[str]:
    """Return ``path: old -> new`` for every different setting that is not ignored; of a path the file's name alone."""
    before, after = (flatten_settings(side.compared(ignored)) for side in (old, new))
    return [
        f"{path}: {_shown(old, path, before)} -> {_shown(new, path, after)}"
        for path in sorted(before | after)
        if before.get(path) != after.get(path)
    ]


def _shown(protocol: Protocol, path: str, values: Mapping[str, Any]) -> str:
    """Write a setting's value; ``none`` as ``--set`` takes it."""
    file = protocol.training.encoder_file if path == "training.encoder_weights" else None
    value = file.name if file else values.get(path)
    return "none" if value is None else repr(value)


def flatten_settings(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested fields under dotted paths."""
    flat: dict[str, Any] = {}
    for key, value in fields.items():
        path = f"{prefix}{key}"
        flat |= flatten_settings(value, f"{path}.") if isinstance(value, Mapping) else {path: value}
    return flat


def _apply(fields: dict[str, Any], override: str) -> None:
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise UserError(f"--set {override!r}: expected path=value, such as training.lr=5e-4")
    *groups, last = keys = path.strip().split(".")
    if keys[0] in FILLED_IN:
        raise UserError(f"--set {override!r}: {keys[0]} follows from the installed packages in use; leave it out")
    annotation: Any = Protocol
    for depth, key in enumerate(keys, start=1):
        model = settings_group(annotation)
        if model is not None and key not in model.model_fields:
            raise UserError(
                f"--set {override!r}: no field {'.'.join(keys[:depth])!r}; the nearest is "
                f"{_nearest('.'.join(keys))!r}, see `benchmark list protocols -v` for all"
            )
        annotation = None if model is None else model.model_fields[key].annotation
    if settings_group(annotation) is not None:
        first = next(known for known in setting_paths(Protocol) if known.startswith(f"{'.'.join(keys)}."))
        raise UserError(f"--set {override!r}: {path!r} is a group; expected one of its fields, such as {first}")
    target = fields
    for depth, key in enumerate(groups, start=1):
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise UserError(f"--set {override!r}: {'.'.join(keys[:depth])!r} is a single value and has no fields")
    # "none" unsets entries of tables and optional fields: `training.augmentation=none` is a value.
    if (annotation is None or NoneType in get_args(annotation)) and text.strip().lower() in ("none", "null"):
        target.pop(last, None)
    else:
        target[last] = toml_value(text)


def settings_group(annotation: Any) -> type[BaseModel] | None:
    """Return a field's group of settings, ``None`` for a single setting."""
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def setting_paths(model: type[BaseModel]) -> list[str]:
    """Return the dotted paths of all settings."""
    fields = {name: info for name, info in model.model_fields.items() if name not in FILLED_IN}
    groups = {name: settings_group(info.annotation) for name, info in fields.items()}
    return [
        f"{name}.{path}" if path else name
        for name, group in groups.items()
        for path in (setting_paths(group) if group else [""])
    ]


def _nearest(path: str) -> str:
    """Return the setting that is most similar to a path, with or without its group."""

    def likeness(candidate: str) -> float:
        pairs = ((path, candidate), (path.rpartition(".")[2], candidate.rpartition(".")[2]))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return max(setting_paths(Protocol), key=likeness)


def _explain(error: ValidationError) -> str:
    """Describe each problem by its field, the found and the expected value."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(map(str, problem["loc"]))
        if problem["type"] == "extra_forbidden":
            lines.append(f"no field {path!r}; the nearest is {_nearest(path)!r}")
        else:
            value = "" if isinstance(problem["input"], Mapping) else f", found {problem['input']!r}"
            lines.append(f"{path or 'protocol'}: {problem['msg'].removeprefix('Value error, ')}{value}")
    return "; ".join(lines)
