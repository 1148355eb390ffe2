"""Registers all networks by name with class, paper, size rule and expected cost.

It does not import torch, so that plans and ``list`` are fast.
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmark.config import code_identity, network_files, own_packages, smp_names
from benchmark.config.network_files import NetworkFile
from benchmark.config.published import PUBLISHED, Published
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.names import is_plain

if TYPE_CHECKING:
    from torch import nn

GROUPS = ("all", "lightweight", "ic", "reviewers")


@dataclass(frozen=True)
class ModelEntry:
    """The facts about a network before it is built.

    Attributes:
        name: for users; ``parent.variant`` for a variant.
        target: ``"module:Class"`` or ``"path/to/file.py:Class"``; takes ``in_channels``, ``classes``, ``kwargs``.
        family: ``ours``, ``lightweight``, ``ic`` (IC segmentation practice), ``general`` or ``user``.
        display: the name in tables and plots.
        paper: short reference with arXiv number or DOI.
        params: expected trainable parameters at one input channel and one class; ``None`` for a user's network.
        gmacs_512: expected 1e9 multiply-accumulates at 512x512 (convolution, linear, matmul; batch 1).
        gmacs_1024: the same at 1024x1024, if not four times ``gmacs_512``.
        multiple: divisor of an input's height and width.
        kwargs: further constructor arguments, of variants.
        version: raised by hand when a change alters the network's results, so that old records become stale.
        cite: BibTeX keys of its papers in ``report/tables/references.bib``.
        built_on: BibTeX keys of papers whose network it modifies.
        group: family in tables and plots, of a user's network that names one; else ``family``.
        citation: BibTeX entry of a user's network.
        packages: installed packages that define the network, whose versions are part of a run's key.
    """

    name: str
    target: str
    family: str
    display: str
    paper: str
    params: int | None
    gmacs_512: float | None
    multiple: int
    gmacs_1024: float | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict, hash=False)  # a dict has no hash
    version: int = 1
    cite: tuple[str, ...] = ()
    built_on: tuple[str, ...] = ()
    group: str = ""
    citation: str = ""
    packages: tuple[str, ...] = ()

    @property
    def published(self) -> Published | None:
        """Its paper's figures, if comparable."""
        return PUBLISHED.get(self.name)

    def gmacs(self, height: int, width: int) -> float | None:
        """Estimate 1e9 MACs of an input size; exact at 512x512 and 1024x1024 only."""
        if self.gmacs_512 is None:
            return None
        area = height * width / 512**2
        # cost = a·area + b·area²: the cost of attention grows with the square of the tokens.
        quadratic = 0.0 if self.gmacs_1024 is None else (self.gmacs_1024 - 4 * self.gmacs_512) / 12
        return (self.gmacs_512 - quadratic) * area + quadratic * area**2

    def load(self) -> type[nn.Module]:
        """Import the network's module and return its class.

        Raises:
            UserError: the module cannot be imported, or its class is missing or not an ``nn.Module``.
        """
        from torch import nn

        module_name, _, class_name = self.target.rpartition(":")
        if self.family != "user":
            own_packages.refuse_hidden()
        try:
            if module_name.endswith(".py"):
                module = NetworkFile.at(Path(module_name)).load(code_identity.code_digest(self) or "")
            else:
                module = importlib.import_module(module_name)
        except UserError:
            raise
        except Exception as error:  # an import runs the user's code, which may raise anything
            where = network_files.location(error, code_identity.code(self))
            raise UserError(
                f"model {self.name!r}: cannot load {self.target!r} ({type(error).__name__}: {error}"
                f"{where and f'; {where}'}); expected 'module:Class' or 'path/to/file.py:Class', whose imports are "
                "looked for beside that file, then among installed packages and on PYTHONPATH"
            ) from error
        network_class = getattr(module, class_name, None)
        if not (isinstance(network_class, type) and issubclass(network_class, nn.Module)):
            names = ", ".join(network_files.classes(module, nn.Module))
            kind = f"a {type(network_class).__name__}" if hasattr(module, class_name) else "not there"
            raise UserError(
                f"model {self.name!r}: {class_name!r} in {module_name} is {kind}"
                f"{did_you_mean(class_name, names.split(', '))}; expected the name of a class of torch.nn.Module"
                f"{names and f' (there: {names})'}"
            )
        return network_class

    def build(self, in_channels: int = 1, classes: int = 1, **kwargs: Any) -> nn.Module:
        """Construct the network with torch's current random state; further arguments go to its constructor.

        Raises:
            UserError: it cannot be loaded, or a user's network does not take ``in_channels`` and ``classes``.
        """
        network_class = self.load()
        if self.family == "user":
            network_files.refuse_arguments(network_class, self.target, in_channels=in_channels, classes=classes)
        return network_class(in_channels=in_channels, classes=classes, **self.kwargs, **kwargs)


def by_name(*entries: ModelEntry) -> dict[str, ModelEntry]:
    """Return entries by their names; raises a ValueError where two have one name."""
    table: dict[str, ModelEntry] = {}
    for entry in entries:
        if entry.name in table:
            raise ValueError(f"model {entry.name!r} is registered twice: {table[entry.name].target} and {entry.target}")
        table[entry.name] = entry
    return table


def _variants(
    parent: ModelEntry, **variants: tuple[str, int | None, float | None, float | None, dict[str, Any]]
) -> list[ModelEntry]:
    """Make entries from (label, parameters, GMAC at 512x512, GMAC at 1024x1024, constructor arguments)."""
    fields = ("name", "display", "params", "gmacs_512", "gmacs_1024", "kwargs")
    rows: list[tuple[Any, ...]] = [
        (f"{parent.name}.{name}", f"{parent.display} ({row[0]})", *row[1:]) for name, row in variants.items()
    ]
    return [replace(parent, **dict(zip(fields, row, strict=True))) for row in rows]


_EAL = ModelEntry(
    "eal_icnet", "models.eal_icnet:EALICNet", "ours", "EAL-ICNet", "EAL-ICNet (the method under test)",
    802_698, 7.680, 8, gmacs_1024=59.71, built_on=("li2019dabnet",),
)  # fmt: skip
_HRNET = ModelEntry(
    "hrnet", "baselines.hrnet:HRNet", "ic", "HRNet-W48", "Wang et al., TPAMI 2021, arXiv:1908.07919",
    65_845_249, 93.15, 32, cite=("wang2021hrnet",),
)  # fmt: skip
_UNETPP = ModelEntry(
    "unetpp", "baselines.unetpp:UNetPlusPlus", "ic", "EUNet++",
    "Zhou et al., DLMIA 2018, arXiv:1807.10165; E-UNet++, doi:10.1002/cta.4485", 6_156_845, 22.03, 32,
    cite=("zhou2018unetpp", "cheng2025eunetpp"),
)  # fmt: skip

# In the order of tables: the method, the lightweight networks, those of IC practice, those for any images.
BUILTIN: Mapping[str, ModelEntry] = MappingProxyType(
    by_name(
        _EAL,
        *_variants(
            _EAL,
            no_tssa=("O-TSSA", 769_794, 7.545, 59.17, {"tssa": False}),
            no_pam=("O-PMA", 782_057, 5.180, None, {"pam": False}),
            no_dilation=(
                "O-DC", 802_698, 7.680, 59.71, {"dilations_1": (1, 1, 1), "dilations_2": (1, 1, 1, 1, 1, 1)},
            ),
            no_dab1=("R-DAB1", 737_802, 6.654, 55.61, {"dilations_1": ()}),
            no_dab2=("R-DAB2", 297_354, 5.647, 51.58, {"dilations_2": ()}),
            dilations_1_3_5=("d=1,3,5", 802_698, 7.680, 59.71, {"dilations_2": (1, 1, 3, 3, 5, 5)}),
            dilations_2_4_6=("d=2,4,6", 802_698, 7.680, 59.71, {"dilations_2": (2, 2, 4, 4, 6, 6)}),
            dilations_1_2_3=("d=1,2,3", 802_698, 7.680, 59.71, {"dilations_2": (1, 1, 2, 2, 3, 3)}),
        ),
        ModelEntry(
            "irdpnet", "baselines.irdpnet:IRDPNet", "lightweight", "IRDPNet",
            "Mazhar et al., IEEE TAI 2024, doi:10.1109/TAI.2023.3341976", 1_063_149, 5.737, 4,
            cite=("mazhar2024irdpnet",), built_on=("li2019dabnet",),
        ),
        ModelEntry(
            "edanet", "baselines.edanet:EDANet", "lightweight", "EDANet",
            "Lo et al., MMAsia 2019, arXiv:1809.06323", 681_171, 4.370, 4, cite=("lo2019edanet",),
        ),
        ModelEntry(
            "contextnet", "baselines.contextnet:ContextNet", "lightweight", "ContextNet",
            "Poudel et al., BMVC 2018, arXiv:1805.04554", 873_089, 0.791, 4, cite=("poudel2018contextnet",),
        ),
        ModelEntry(
            "esnet", "baselines.esnet:ESNet", "lightweight", "ESNet",
            "Wang et al., PRCV 2019, arXiv:1906.09826", 1_657_687, 11.94, 8, cite=("wang2019esnet",),
        ),
        ModelEntry(
            "letnet", "baselines.letnet:LETNet", "lightweight", "LETNet",
            "Xu et al., IEEE T-ITS 2023, arXiv:2302.10484", 949_808, 6.678, 16, gmacs_1024=27.62,
            cite=("xu2023letnet",),
        ),
        ModelEntry(
            "fcn", "baselines.fcn:FCN", "ic", "FCN",
            "Long et al., CVPR 2015, arXiv:1411.4038", 18_642_561, 85.3, 32, cite=("long2015fcn",),
        ),
        ModelEntry(
            "unet", "baselines.unet:UNet", "ic", "UNet",
            "Ronneberger et al., MICCAI 2015, arXiv:1505.04597", 13_394_177, 123.38, 16, cite=("ronneberger2015unet",),
        ),
        _HRNET,
        *_variants(
            _HRNET,
            w18=("W18", 9_635_089, 18.27, None, {"width": "w18"}),
            w18_small_v2=("W18 small v2", 3_933_549, 9.452, None, {"width": "w18_small_v2"}),
        ),
        ModelEntry(
            "manet", "baselines.manet:MAnet", "ic", "MAnet",
            "Fan et al., IEEE Access 2020, doi:10.1109/ACCESS.2020.3025372", 8_679_621, 11.32, 32, gmacs_1024=45.57,
            cite=("fan2020manet",),
        ),
        _UNETPP,
        *_variants(_UNETPP, b7=("EfficientNet-B7", 66_518_881, 74.47, None, {"encoder": "efficientnet-b7"})),
        ModelEntry(
            "residual_unet", "baselines.residual_unet:ResidualUNet", "general", "Residual U-Net",
            "Isensee et al., MICCAI 2024, arXiv:2404.09556", 71_814_625, 126.25, 32, cite=("isensee2024nnunet",),
        ),
    )
)  # fmt: skip


def models() -> dict[str, ModelEntry]:
    """Return the built-in networks, then those of installed packages.

    A package registers a network with an entry point of the group ``eal_icnet_benchmark.models``,
    ``name = "module:Class"``.

    Raises:
        UserError: the name of an entry point is taken or unusable.
    """
    table = dict(BUILTIN)
    for point in code_identity.installed():
        fault = ""
        if not is_plain(point.name):
            fault = "expected a name of letters, digits, '_', '.' and '-', since folders are called by it"
        elif point.name in table or point.name in GROUPS:
            fault = "the name is taken"
        if fault:
            raise UserError(
                f"entry point {point.name!r} = {point.value!r}: {fault}; rename it in that package's metadata"
            )
        table[point.name] = user_entry(point.name, point.value)
    return table


def find(name: str) -> ModelEntry | None:
    """Return a built-in network, one of an installed package, or one of smp without its figures, by its name."""
    parts = smp_names.parts(name)
    return models().get(name) or (_smp_entry(*parts) if parts else None)


def measured(entry: ModelEntry) -> ModelEntry:
    """Return an entry with size rule, parameters, MACs and papers, which of smp's networks are found by trial.

    Raises:
        UserError: smp cannot build the network, or it takes images of one size only.
    """
    return replace(entry, **smp_names.figures(**entry.kwargs)) if entry.packages and not entry.params else entry


def select(
    patterns: str | Iterable[str],
    also: Iterable[ModelEntry] = (),
    *,
    figures: bool = True,
    most: int | None = smp_names.MOST,
) -> list[ModelEntry]:
    """Resolve the patterns of ``--models``, in table order without repetitions.

    Args:
        patterns: comma-separated names, groups (``all``, ``lightweight``, ``ic``, ``reviewers``), wildcards
            (``unet*``), ``smp/ARCHITECTURE/ENCODER`` or ``path/to/file.py:Class``.
        also: further networks, such as users' networks in a study's records.
        figures: whether to find the figures of smp's networks, which takes seconds for each.
        most: number of smp's networks that one wildcard may name; ``None`` for any.

    Raises:
        UserError: a pattern matches nothing (suggests the nearest name) or more than ``most`` networks of smp.
    """
    patterns = patterns.split(",") if isinstance(patterns, str) else patterns
    patterns = [pattern.strip() for pattern in patterns if pattern.strip()]
    registered = models()
    table = registered | {entry.name: entry for entry in also if entry.name not in registered}
    if not patterns:
        raise UserError(f"--models is empty; expected names out of {', '.join(_names(table))} or a group")
    chosen: dict[str, ModelEntry] = {}
    for pattern in patterns:
        is_file = ".py:" in pattern or pattern.endswith(".py")
        for entry in [_from_file(pattern, registered)] if is_file else _resolve(pattern, table, most):
            other = chosen.setdefault(entry.name, entry)
            if other.target != entry.target:
                raise UserError(
                    f"--models: {other.target!r} and {entry.target!r} are both called {entry.name!r}; "
                    "rename one of the classes"
                )
    order = {name: place for place, name in enumerate(dict.fromkeys([*registered, *chosen]))}
    entries = sorted(chosen.values(), key=lambda entry: order[entry.name])
    return [measured(entry) if figures else entry for entry in entries]


def _from_file(pattern: str, registered: Mapping[str, ModelEntry]) -> ModelEntry:
    path, _, class_name = pattern.partition(".py")
    path, class_name = f"{path}.py", class_name.removeprefix(":")
    name = class_name.lower()
    if not (class_name.isidentifier() and is_plain(name)):
        raise UserError(f"--models {pattern!r}: no class named; expected path/to/file.py:Class")
    if name in registered or name in GROUPS:
        raise UserError(f"--models {pattern!r}: the name {name!r} is taken; rename the class")
    if not Path(path).is_file():
        raise UserError(f"--models {pattern!r}: no file {path!r}; expected path/to/file.py:Class")
    facts = network_files.declared_facts(pattern, Path(path), class_name)
    return user_entry(name, pattern, facts["display_name"], group=facts["family"], citation=facts["citation"])


def _resolve(pattern: str, table: Mapping[str, ModelEntry], most: int | None) -> list[ModelEntry]:
    if pattern == "reviewers":
        return [entry for name in smp_names.REVIEWERS if (entry := find(name))]
    if pattern in GROUPS:
        families = ("ours", "lightweight", "ic") if pattern == "all" else (pattern,)
        return [table[name] for name in _names(table) if table[name].family in families]
    name = smp_names.recorded(pattern)
    matches = [table[known] for known in ([name] if name in table else fnmatch.filter(table, name))]
    if not matches and smp_names.is_smp(name):
        names = smp_names.expand(pattern)
        smp_names.refuse_many(pattern, names, most)
        matches = [entry for name in names if (entry := find(name))]
    if not matches:
        raise UserError(
            f"unknown model {pattern!r}{did_you_mean(pattern, [*table, *GROUPS])} "
            f"(known: {', '.join(_names(table))}; groups: {', '.join(GROUPS)}); see `benchmark list models`. "
            "Your own network is named by its file: path/to/file.py:Class, one of smp as smp/ARCHITECTURE/ENCODER"
        )
    return matches


def _names(table: Mapping[str, ModelEntry]) -> list[str]:
    return [name for name in table if "." not in name]


def _smp_entry(architecture: str, encoder: str) -> ModelEntry:
    """Return the facts about a network of smp that its name alone tells; see :func:`measured`."""
    display, cite = smp_names.ARCHITECTURES[architecture]
    return ModelEntry(
        f"smp-{architecture}-{encoder}", smp_names.TARGET, "general", f"{display} ({encoder})", "", None, None, 1,
        kwargs={"architecture": architecture, "encoder": encoder}, cite=(cite,), packages=smp_names.PACKAGES,
    )  # fmt: skip


def user_entry(name: str, target: str, display: str = "", *, group: str = "", citation: str = "") -> ModelEntry:
    """Return the facts about a user's network; without ``display`` it is shown by its name."""
    paper = f"user's own ({Path(target).name})"
    return ModelEntry(name, target, "user", display or name, paper, None, None, 1, group=group, citation=citation)
