"""Builds any architecture of segmentation-models-pytorch (smp) on any encoder.

Encoders are smp's own (``resnet34``, ``mit_b0``) or, after ``tu-``, timm's (``tu-convnext_tiny``). Papers and layers
are smp's and timm's; this file adds nothing to them. It finds by trial what they do not tell: the sizes that a network
takes, and the weights that its forward never reaches. Trials run on the meta device, where nothing is computed.
Deviations: weights are random unless asked for; encoders of a fixed input size take others where timm can do that
(``dynamic_img_size``, ``strict_img_size``); DPT ignores prefix tokens where its encoder has none, as smp advises.
"""

from __future__ import annotations

import functools
import re
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders import get_encoder_names
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from models.blocks import check_input
from models.reached import reached_parameters
from models.shapes import QuickShapes

ARCHITECTURES: Mapping[str, type[nn.Module]] = smp.MODEL_ARCHITECTURES_MAPPING
#: Tried in this order: powers of two, and multiples of the windows of 7 and 12 of transformers.
MULTIPLES = sorted([2**n for n in range(10)] + [7 * 2**n for n in range(7)] + [3 * 2**n for n in range(2, 8)])
#: Ways to ask timm for networks that take images of several sizes; the first is for all that take them anyway.
ANY_SIZE: tuple[Mapping[str, Any], ...] = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
USUAL = 32  # five halvings
LEAST = 64  # pixels: five halvings leave more than one pixel
OTHER_SIZE = "images of"
ARXIV = re.compile(r"arxiv\.org/(?:abs|pdf)/(\d{4}\.\d{4,5})")


@dataclass(frozen=True)
class Findings:
    """Facts about an architecture on an encoder, found by trial.

    Attributes:
        multiple: divisor of an image's height and width.
        options: further arguments for smp's class: they let timm's encoder take images of several sizes, and DPT ignore
            prefix tokens that there are not.
        unreached: names of the parameters that the forward never reaches, such as an encoder's last norm.
    """

    multiple: int
    options: Mapping[str, Any]
    unreached: frozenset[str]


class SMPNetwork(nn.Module):
    """An architecture of smp on an encoder; parameters keep smp's names, so smp's checkpoints load.

    Parameters that the forward never reaches, such as an encoder's unused head, stay for these checkpoints. They do
    not require gradients: no optimiser changes them, no count includes them, and distributed training waits for none.

    Args:
        in_channels: channels C of the image.
        classes: channels of the logits.
        architecture: the name of smp's class in lower case: ``unet``, ``segformer``, ...
        encoder: ``resnet34``, ``mit_b0``, ``tu-convnext_tiny``, ...
        encoder_weights: ``None`` for random weights, or ``"imagenet"`` for pretrained weights, which are downloaded.

    Raises:
        ValueError: a name is unknown, the encoder does not fit the architecture, or it has no such weights.

    Example:
        >>> network = SMPNetwork(architecture="fpn", encoder="tu-test_resnet")
        >>> network(torch.zeros(2, 1, 64, 96)).shape
        torch.Size([2, 1, 64, 96])
    """

    def __init__(
        self,
        in_channels: int = 1,
        classes: int = 1,
        *,
        architecture: str,
        encoder: str,
        encoder_weights: str | None = None,
    ) -> None:
        super().__init__()
        findings = find(architecture, encoder)
        self.in_channels = in_channels
        self.size_multiple = findings.multiple
        network = _build(architecture, encoder, in_channels, classes, encoder_weights, findings.options)
        self.encoder = network.get_submodule("encoder")
        self.decoder = network.get_submodule("decoder")
        self.segmentation_head = network.get_submodule("segmentation_head")
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name not in findings.unreached)
        # For images without three channels, smp makes the first convolution on the CPU, whatever the default device.
        self.to(torch.get_default_device())

    def forward(self, x: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, classes, H, W)``."""
        check_input(x, self.in_channels, self.size_multiple)
        features = self.encoder(x)
        # Encoders of DPT return maps and prefix tokens, all others a list of maps.
        decoded = self.decoder(*features) if isinstance(features, tuple) else self.decoder(features)
        logits: Tensor = self.segmentation_head(decoded)
        return logits


def encoder_names() -> list[str]:
    """Return the names of all encoders, smp's first."""
    return [*get_encoder_names(), *(f"tu-{name}" for name in timm.list_models())]  # type: ignore[no-untyped-call]


def papers(architecture: str, encoder: str) -> list[str]:
    """Return the papers that smp names for its architecture and timm for its encoder, as ``arXiv:...`` or a URL."""
    link = re.search(r"^\s*\.\. _[^:\n]+:\s+(\S+)", ARCHITECTURES[architecture].__doc__ or "", re.M)
    own = link[1] if link else ""
    number = ARXIV.search(own)
    cited = [f"arXiv:{number[1]}" if number else own]
    if encoder.startswith("tu-"):
        module = timm.models.model_entrypoint(encoder.removeprefix("tu-")).__module__
        number = ARXIV.search(sys.modules[module].__doc__ or "")
        cited += [f"arXiv:{number[1]}"] if number else []
    return [paper for paper in dict.fromkeys(cited) if paper]


@functools.cache
def find(architecture: str, encoder: str) -> Findings:
    """Find the facts about an architecture on an encoder by forwards on the meta device; this takes seconds.

    Raises:
        ValueError: a name is unknown, the encoder does not fit the architecture, or it takes images of one size only.
    """
    if architecture not in ARCHITECTURES:
        raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}; found {architecture!r}")
    if encoder not in set(encoder_names()):
        raise ValueError(f"encoder {encoder!r} is neither one of smp's nor, after 'tu-', one of timm's")
    faults = []
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        for options in ANY_SIZE:
            try:
                network = _build(architecture, encoder, 1, 1, None, options)
            except ValueError:
                if not options:
                    raise
                continue  # timm's network has no such option
            if architecture == "dpt" and not getattr(network.encoder, "has_prefix_tokens", False):
                options = {**options, "decoder_readout": "ignore"}
                network = _build(architecture, encoder, 1, 1, None, options)
            multiple, fault = _size_rule(network.to("meta").eval())
            if multiple:
                return Findings(multiple, options, _unreached(network.train(), 2 * max(multiple, LEAST)))
            faults.append(fault)
    raise ValueError(f"{architecture} on {encoder} does not take images of several sizes ({faults[0]})")


class _NumbersOnCPU(TorchFunctionMode):
    """Keeps numbers that some encoders compute while they are built, as rates of dropout, off the meta device."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        kwargs = dict(kwargs or {})
        if func is torch.linspace:
            kwargs.setdefault("device", "cpu")
        return func(*args, **kwargs)


def _build(
    architecture: str,
    encoder: str,
    in_channels: int,
    classes: int,
    weights: str | None,
    options: Mapping[str, Any],
) -> nn.Module:
    """Build smp's network; every fault becomes a ``ValueError``."""
    if weights not in (None, "imagenet"):
        raise ValueError(f"encoder_weights must be None or 'imagenet', found {weights!r}")
    asked = True if weights and encoder.startswith("tu-") else weights
    build: Callable[..., nn.Module] = ARCHITECTURES[architecture]
    with warnings.catch_warnings(), _NumbersOnCPU():
        warnings.simplefilter("ignore")  # smp prefers other names of some encoders, and timm too
        try:
            return build(encoder, encoder_weights=asked, in_channels=in_channels, classes=classes, **options)
        except Exception as error:  # of many kinds, also where there are no such weights or no connection
            wanted = f" with weights {weights!r}" if weights else ""
            kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
            raise ValueError(f"smp cannot build {architecture} on {encoder}{wanted} ({kind}{_line(error)})") from error


def _size_rule(network: nn.Module) -> tuple[int, str]:
    """Return the least multiple whose images give logits of their size; 0 and the most telling fault if none does."""
    faults = [_fault(network, USUAL)]
    # The rule divides every multiple that works, and nearly all networks work at the usual one.
    for multiple in [number for number in MULTIPLES if faults[0] or USUAL % number == 0]:
        faults.append(faults[0] if multiple == USUAL else _fault(network, multiple))
        if not faults[-1]:
            return multiple, ""
    return 0, next((fault for fault in faults if fault.startswith(OTHER_SIZE)), faults[0])


def _fault(network: nn.Module, multiple: int) -> str:
    """Return why a network does not take all multiples of a number as sides, blank if it does.

    No larger number divides all sides that are tried.
    """
    least = -(-LEAST // multiple)
    odd = least // 2 * 2 + 1
    for rows, columns in ((odd, odd + 1), (least, least), (odd, odd), (odd + 3, odd), (3 * odd, 2 * odd)):
        height, width = rows * multiple, columns * multiple
        try:
            with torch.no_grad(), QuickShapes():
                shape = tuple(network(torch.empty(1, 1, height, width)).shape)
        except Exception as error:  # any fault means that it does not take this size
            return f"{type(error).__name__}: {_line(error)}"
        if shape != (1, 1, height, width):
            return f"{OTHER_SIZE} {height}x{width} gave logits of {shape[-2]}x{shape[-1]}"
    return ""


def _line(error: Exception) -> str:
    """Return the beginning of an error's message in one line."""
    return " ".join(str(error).split())[:300]


def _unreached(network: nn.Module, side: int) -> frozenset[str]:
    """Return the parameters that autograd's graph does not lead to from the logits, in training."""
    reached = reached_parameters(network(torch.empty(2, 1, side, side)))
    return frozenset(name for name, parameter in network.named_parameters() if parameter not in reached)
