"""Names networks of segmentation-models-pytorch (smp), and finds their figures.

A network is typed as ``smp/unet/resnet34`` and recorded as ``smp-unet-resnet34``, since folders are called by it; both
forms choose it. smp and torch are imported only where names are checked or networks are built.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from benchmark.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from torch import nn

TARGET = "baselines.smp_networks:SMPNetwork"
#: Their versions are part of a run's key, since layers and initial weights are theirs.
PACKAGES = ("segmentation-models-pytorch", "timm")
#: Most networks of one wildcard: more are a mistake that would cost days.
MOST = 20

#: smp's architectures: name for readers, BibTeX key of the paper in ``report/tables/references.bib``.
ARCHITECTURES: Mapping[str, tuple[str, str]] = {
    "unet": ("U-Net", "ronneberger2015unet"),
    "unetplusplus": ("U-Net++", "zhou2018unetpp"),
    "manet": ("MA-Net", "fan2020manet"),
    "linknet": ("LinkNet", "chaurasia2017linknet"),
    "fpn": ("FPN", "lin2017fpn"),
    "pspnet": ("PSPNet", "zhao2017pspnet"),
    "deeplabv3": ("DeepLabV3", "chen2017deeplabv3"),
    "deeplabv3plus": ("DeepLabV3+", "chen2018deeplabv3plus"),
    "pan": ("PAN", "li2018pan"),
    "upernet": ("UPerNet", "xiao2018upernet"),
    "segformer": ("SegFormer", "xie2021segformer"),
    "dpt": ("DPT", "ranftl2021dpt"),
}

#: The group ``reviewers``: strong ordinary networks that a reader misses in a comparison, and why each is there.
REVIEWERS: Mapping[str, str] = {
    "residual_unet": "nnU-Net's residual U-Net: medical segmentation's standard, seldom beaten when trained alike",
    "smp-deeplabv3plus-resnet50": "DeepLabV3+ on ResNet-50: the usual convolutional network of natural images",
    "smp-segformer-mit_b0": "SegFormer-B0: the usual small transformer, at a lightweight network's cost",
    "smp-upernet-tu-convnext_tiny": "UPerNet on ConvNeXt-T: a modern convolutional encoder in its usual decoder",
    "smp-dpt-tu-vit_small_patch16_224": "DPT on ViT-S: a plain vision transformer without a pyramid",
}


def is_smp(pattern: str) -> bool:
    """Tell whether a pattern of ``--models`` names networks of smp, in the typed or the recorded form."""
    return pattern.startswith(("smp/", "smp-"))


def recorded(pattern: str) -> str:
    """Return the form of a name or pattern that records and folders have; others stay as they are."""
    return pattern.replace("/", "-") if is_smp(pattern) else pattern


def typed(architecture: str, encoder: str) -> str:
    """Return the form of a name that users type."""
    return f"smp/{architecture}/{encoder}"


def parts(name: str) -> tuple[str, str] | None:
    """Return architecture and encoder of a network of smp, ``None`` for other names; the encoder is not checked."""
    if not is_smp(name):
        return None
    _, architecture, encoder = [*recorded(name).split("-", 2), ""][:3]
    return (architecture, encoder) if architecture in ARCHITECTURES and encoder else None


def expand(pattern: str) -> list[str]:
    """Return the recorded names of all networks that a name or wildcard stands for.

    Raises:
        UserError: there is none; suggests the nearest name.
    """
    from baselines.smp_networks import encoder_names

    _, architecture, encoder = [*recorded(pattern).split("-", 2), ""][:3]
    if "*" in architecture and not encoder:
        encoder = "*"
    known = encoder_names()
    architectures = fnmatch.filter(ARCHITECTURES, architecture)
    encoders = fnmatch.filter(known, encoder)
    flag = f"--models {pattern!r}"
    if not architectures:
        raise UserError(
            f"{flag}: smp has no architecture {architecture!r}{did_you_mean(architecture, ARCHITECTURES)} "
            f"(known: {', '.join(ARCHITECTURES)}); expected smp/ARCHITECTURE/ENCODER, such as smp/unet/resnet34"
        )
    if not encoder:
        raise UserError(f"{flag}: no encoder; expected smp/ARCHITECTURE/ENCODER, such as smp/{architecture}/resnet34")
    if not encoders:
        near = f"tu-{encoder}" if f"tu-{encoder}" in known else encoder
        remedy = "leave out the tag, which names pretrained weights; " if "." in encoder else ""
        raise UserError(
            f"{flag}: no encoder {encoder!r}{did_you_mean(near.partition('.')[0], known)} ({remedy}timm's begin with "
            f"'tu-'); `benchmark list models '{typed(architectures[0], '*')}'` lists all"
        )
    return [f"smp-{architecture}-{encoder}" for architecture in architectures for encoder in encoders]


def refuse_many(pattern: str, names: list[str], most: int | None) -> None:
    """Refuse a wildcard that stands for hundreds of networks.

    Raises:
        UserError: it does.
    """
    if most is not None and len(names) > most:
        raise UserError(
            f"--models {pattern!r} names {len(names):,} networks; at most {most} of one wildcard are taken. Narrow it, "
            f"as in smp/unet/resnet*, or name them; `benchmark list models '{pattern}'` lists them"
        )


def figures(architecture: str, encoder: str) -> dict[str, Any]:
    """Find size rule, parameters, MACs and papers of a network on the meta device, in seconds.

    Returns:
        Values for the fields of a network's entry: ``multiple``, ``params``, ``gmacs_512``, ``gmacs_1024``, ``paper``.

    Raises:
        UserError: smp cannot build it, or it takes images of one size only.
    """
    import torch

    from baselines.smp_networks import SMPNetwork, papers

    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            network = SMPNetwork(architecture=architecture, encoder=encoder).eval()
    except ValueError as error:
        raise UserError(f"--models {typed(architecture, encoder)}: {error}; choose another encoder") from error
    multiple = network.size_multiple
    side = max(round(512 / multiple), 1) * multiple
    # cost = a·area + b·area², by two sizes: the cost of attention grows with the square of the tokens.
    cost, cost_of_four = (_gmacs(network, number) for number in (side, 2 * side))
    quadratic, area = (cost_of_four - 4 * cost) / 12, (512 / side) ** 2
    return {
        "multiple": multiple,
        "params": sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad),
        "gmacs_512": (cost - quadratic) * area + quadratic * area**2,
        "gmacs_1024": 4 * (cost - quadratic) * area + 16 * quadratic * area**2,
        "paper": "; ".join(papers(architecture, encoder)),
    }


def _gmacs(network: nn.Module, side: int) -> float:
    """Count 1e9 MACs of one image on the meta device, attention by its plain matrix products."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from models.shapes import QuickShapes

    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter, QuickShapes():
        network(torch.empty(1, 1, side, side))
    return float(counter.get_total_flops() / 2e9)
