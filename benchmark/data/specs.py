"""Describes datasets that are known or that users register by TOML or entry points."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from benchmark.config.protocol import Protocol
from benchmark.config.targets import Target, dataset_of, layers_of
from benchmark.data import source_files
from benchmark.data.formats.values import Values
from benchmark.data.source_files import SourceFile
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_toml

#: The layers that labels of several, stand-ins and layouts tell apart; metal is tracks and vias.
Layer = Literal["metal", "track", "via"]
Kind = str  # of an annotation's category: a layer, or "none"
ENTRY_POINTS = "eal_icnet_benchmark.datasets"
SUFFIX = "-syn"


def known_first(name: str, known: Iterable[str]) -> tuple[int, str]:
    """Return a sort key: known names in their order, each followed by its stand-in and layers, then others by name."""
    order = {other: index for index, other in enumerate(known)}
    return order.get(dataset_of(name).removesuffix(SUFFIX), len(order)), name


def check_group(pattern: str) -> None:
    """Refuse a pattern that cannot name a source frame.

    Raises:
        ValueError: no regular expression, or a number of groups other than 1.
    """
    try:
        groups = re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"no regular expression ({error}); expected one such as '(frame\\d+)_'") from error
    if groups != 1:
        raise ValueError("expected a pattern with one group in parentheses, such as '(frame\\d+)_'")


class DatasetSpec(BaseModel):
    """A dataset's folder and how it is read; all fields but the name have a default.

    A TOML file holds these fields at its top level; ``root`` is relative to the file.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="what --datasets and every artefact call it")
    display: str = Field("", description="what tables call it; the name by default")
    about: str = Field("", description="one line for `list datasets -v`")
    root: Path | None = Field(None, description="folder of the images; DATA_ROOT/<name> by default")
    layout: Literal["folders", "hy5syn"] | None = Field(
        None, description="folders: image/ label/; hy5syn: sems/ labels/; by default what the folder looks like"
    )
    target: Target = Field(
        "track", description="what a network marks: track, via, metal (both) or another layer; several are joined by +"
    )
    size: Annotated[int, Field(ge=8)] | None = Field(None, description="side of the network's input, pixels")
    channels: Literal[1, 3] | None = Field(None, description="1: gray, 3: RGB")
    group: str | None = Field(
        None, description="pattern on an image's stem; what its first (...) matches names the source frame"
    )
    unlabelled: Literal["refuse", "skip"] = Field("refuse", description="what happens to an image without a label")
    levels: tuple[float, float] | None = Field(
        None, description="16 bit only: values that become 0 and 255; by default percentiles of the dataset"
    )
    labels: Path | None = Field(None, description="folder of labels or COCO file, below root; label/ by default")
    layer_labels: dict[str, Path] = Field(
        default_factory=dict, description="folders of labels of single layers, by layer; label_<layer>/ by default"
    )
    categories: dict[str, Kind] = Field(
        default_factory=dict,
        description="COCO only: which categories are track, via, another layer or none, if not by their names",
    )
    values: Values | None = Field(
        None, description="masks only: which values or '#rrggbb' are background, foreground and ignore"
    )
    citation: str = Field("", description="what to cite, for `list datasets -v`")
    source: tuple[SourceFile, ...] = Field((), description="public files that it is made from, for `data prepare`")

    @field_validator("group")
    @classmethod
    def _has_a_group(cls, pattern: str | None) -> str | None:
        if pattern is not None:
            check_group(pattern)
        return pattern

    @model_validator(mode="after")
    def _levels_ascend(self) -> Self:
        if self.levels is not None and not self.levels[0] < self.levels[1]:
            raise ValueError(f"levels: expected the lower value first, found {list(self.levels)}")
        return self

    @model_validator(mode="after")
    def _layers_are_of_the_target(self) -> Self:
        layers = layers_of(self.target)
        kinds = tuple(dict.fromkeys(("track", "via", "none", *layers)))
        used = {f"categories.{name}": (kind, kinds) for name, kind in self.categories.items()}
        used |= {f"layer_labels.{layer}": (layer, layers) for layer in self.layer_labels}
        for field, (layer, expected) in used.items():
            if layer not in expected:
                raise ValueError(
                    f"{field}: found the layer {layer!r}; expected {', '.join(expected)}, or that layer in `target`"
                )
        return self

    @property
    def shown(self) -> str:
        """The name in tables."""
        return self.display or self.name


KNOWN = {
    spec.name: spec
    for spec in (
        DatasetSpec(name="omc", display="OMC", target="track", about="optical microscope, circuit tracks; private"),
        DatasetSpec(
            name="miic",
            display="MIIC",
            target="track",
            unlabelled="skip",  # 25,276 images, of which the authors of EAL-ICNet annotated 3,446
            about="SEM, metal layer; doi:10.21979/N9/WBLTFI, track masks not published",
        ),
        DatasetSpec(
            name="hy5syn",
            display="HY5SYN",
            target="metal",
            unlabelled="skip",  # 312 of the release's 648 frames have a label
            about="SEM, metal 1 and 2 at 128 nm; doi:10.17617/3.HY5SYN, CC BY 4.0",
        ),
        DatasetSpec(name="omv", display="OMV", target="via", about="optical microscope, vias; private, taken from OMC"),
        DatasetSpec(
            name="omc_omv",
            display="OMC+OMV",
            target="track+via",
            root=Path("omc"),  # of a known dataset, below the data root
            layer_labels={"via": Path("../omv/label")},
            about="OMC's images with OMV's vias where they are labelled; private",
        ),
        DatasetSpec(
            name="t84c",
            display="T84C00",
            target="metal",
            about="optical, metal 1 of a CMOS Z80's registers, 2560x1792; contacts: --set data.target=metal+contact",
            citation="emu-russia, SEGAChips, T84C, 2024; photograph: siliconpr0n.org, toshiba/t84c00am-8",
            source=source_files.T84C,
        ),
        DatasetSpec(
            name="t84c_poly",
            display="T84C00 poly",
            target="poly",
            about="optical, poly of the same block without metal; diffusion: --set data.target=poly+diffusion",
            citation="emu-russia, SEGAChips, T84C, 2024",
            source=source_files.T84C_POLY,
        ),
        DatasetSpec(
            name="54hc32",
            display="54HC32",
            target="metal",
            about="optical, the metal of a die of four OR gates, 2530x2598, bond wires ignored",
            citation="Santee, IC_image_segmentation, 2022; photograph: Project 5474, Wikimedia Commons",
            source=source_files.DIE_54HC32,
        ),
    )
}


#: What `--datasets all` and wildcards mean: the datasets of EAL-ICNet's paper.
PAPERS = ("omc", "miic", "hy5syn", "omv")


def load(file: Path) -> DatasetSpec:
    """Read a dataset's TOML file.

    Args:
        file: names the dataset by its stem unless it has a field ``name``. For a known dataset, fields that the file
            leaves out keep their known values.

    Raises:
        UserError: unreadable file, no TOML, an unknown or ill-typed field.
    """
    fields = read_toml(file, str(file))
    name = fields.get("name", file.stem)
    known = KNOWN[name].model_dump(exclude_unset=True) if name in KNOWN else {"name": name}
    spec = _validated(known | fields, str(file))
    return spec.model_copy(update={"root": file.parent / (spec.root or spec.name)})


def of_folder(name: str) -> DatasetSpec:
    """Return the description of a folder of the data root that has no other.

    Raises:
        UserError: the folder's name cannot be part of file names.
    """
    return _validated({"name": name}, f"folder {name!r} of --data-root")


@functools.cache  # a look at all packages takes 20 ms
def from_entry_points() -> Mapping[str, metadata.EntryPoint]:
    """Return the datasets of installed packages (``eal_icnet_benchmark.datasets``) by name, not loaded."""
    return MappingProxyType({point.name: point for point in metadata.entry_points(group=ENTRY_POINTS)})


def load_entry_point(point: metadata.EntryPoint) -> DatasetSpec:
    """Load a package's dataset: the path of a TOML file, a mapping of fields, or a :class:`DatasetSpec`.

    Raises:
        UserError: the package's object cannot be imported or is none of these.
    """
    where = f"entry point {point.name!r} = {point.value!r}"
    try:
        spec: Any = point.load()
    except Exception as error:
        raise UserError(f"{where}: cannot be imported ({type(error).__name__}: {error})") from error
    if isinstance(spec, str | Path):
        spec = load(Path(spec))
    elif isinstance(spec, dict):
        spec = _validated({"name": point.name, **spec}, where)
    if not isinstance(spec, DatasetSpec):
        kind = type(spec).__name__
        raise UserError(f"{where}: found {kind}; expected a path of a TOML file, a dict or a DatasetSpec")
    if spec.name != point.name:
        raise UserError(f"{where}: the dataset calls itself {spec.name!r}; expected the entry point's name")
    return spec


def fit(protocol: Protocol, specs: list[DatasetSpec]) -> Protocol:
    """Fill a protocol's input sizes and channels by dataset from the datasets' own, where it sets none."""
    size, channels = dict(protocol.input.size_by_dataset), dict(protocol.input.channels_by_dataset)
    for spec in specs:
        if spec.size is not None and protocol.input.own_sizes:
            size.setdefault(spec.name, spec.size)
        if spec.channels is not None:
            channels.setdefault(spec.name, spec.channels)
    update = {"size_by_dataset": size, "channels_by_dataset": channels}
    return protocol.model_copy(update={"input": protocol.input.model_copy(update=update)})


def _validated(fields: dict[str, Any], where: str) -> DatasetSpec:
    try:
        return DatasetSpec.model_validate(fields)
    except ValidationError as error:
        problems = []
        for problem in error.errors(include_url=False):
            field = ".".join(map(str, problem["loc"]))
            if problem["type"] == "extra_forbidden":
                known = list((Values if field.startswith("values.") else DatasetSpec).model_fields)
                problems.append(f"no field {field!r}{did_you_mean(field, known)} (known: {', '.join(known)})")
            elif field == "name" and problem["type"] == "string_pattern_mismatch":
                problems.append(
                    f"name {str(problem['input'])[:80]!r}; expected letters a to z, digits and . _ -, no sign first: "
                    "rename the folder or file, or give a `name` in a TOML file"
                )
            else:
                problems.append(f"{field or 'dataset'}: {problem['msg'].removeprefix('Value error, ')}")
        raise UserError(f"{where}: {'; '.join(problems)}") from error
