"""Finds the modules of an encoder's stages and returns their feature maps.

No network says which of its modules are stages, so a rule finds them in any network, a user's own included:

- If a module returns several maps of falling size, they are the stages; of several such modules the one with most
  maps, then the outermost, then the first. Encoders from libraries do this (segmentation-models-pytorch, timm).
- Else a stage is the last map of its size while sizes fall: all modules' outputs are gone through in the order in which
  they are returned, until one is larger again. Of one size, the outermost module's is taken, so that what a block makes
  inside is none, and of several such that with the longest chain of operations behind it, so that a shortcut is none. A
  size falls when both sides do (a stride along one axis only is half a step), and a map of 1x1 is a statistic, not a
  stage (squeeze and excitation).

Neither the image itself nor what the last layer with weights returns, the logits, is a stage.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.graph import Node, saved_tensors_hooks

from benchmark.data.formats.images import UInt8Array
from benchmark.predict import feature_maps
from benchmark.records.weights import TrainedNetwork
from benchmark.utils.errors import UserError, did_you_mean

#: The rule above in the words of a caption.
RULE = (
    "Stages: the maps that the encoder returns; where no module returns several, one map of each size, the outermost "
    "module's and of such the one with the most operations behind it, while sizes fall and before the logits"
)
NAMED = "Stages: the modules that were asked for"


@dataclass(frozen=True)
class MapSource:
    """The origin of a map.

    Attributes:
        module: dotted name in the network.
        part: number of the map in the module's output; ``None`` for a module that returns a single map.
        call: number of the module's call, from 1; ``None`` for the last.
    """

    module: str
    part: int | None = None
    call: int | None = None

    def __str__(self) -> str:
        """Return the name for users: ``down_2``, ``encoder[3]``."""
        return self.module if self.part is None else f"{self.module}[{self.part}]"

    @property
    def nesting(self) -> int:
        """Number of modules around the module."""
        return self.module.count(".")

    @classmethod
    def parse(cls, text: str) -> MapSource:
        """Read what :meth:`__str__` writes."""
        indexed = re.fullmatch(r"(.+)\[(\d+)\]", text)
        return cls(indexed[1], int(indexed[2])) if indexed else cls(text)


@dataclass(frozen=True)
class StageMaps:
    """A map that a module returned; ``depth`` is its longest chain of operations."""

    source: MapSource
    size: tuple[int, int]
    depth: int


def encoder(
    trained: TrainedNetwork, pixels: UInt8Array, channel: feature_maps.Channel, at: str = ""
) -> feature_maps.Encoder:
    """Return the maps of a trained network's stages for an image.

    Pixels are ``(H, W, C)`` uint8 with the network's channels, and are mirrored to a size that it takes; ``at`` is a
    comma list of modules that replace the rule's stages.

    Raises:
        UserError: the weights cannot be read, the network refuses the image, or it has no such module or stage.
    """
    network = trained.build()
    padded = feature_maps.pad(pixels, trained.entry.multiple)
    image = torch.from_numpy(padded).permute(2, 0, 1)[None].float().div_(255)
    try:
        sources = [MapSource.parse(name.strip()) for name in at.split(",")] if at else find(network, image)
        maps = take(network, image, sources)
        for source, features in zip(sources, maps, strict=True):
            if not np.isfinite(features).all():
                raise UserError(f"{source} returns values that are not finite; train that study again")
    except UserError as error:
        raise UserError(f"{trained.entry.name}: {error}") from error
    except Exception as error:  # a user's network may raise anything
        height, width = padded.shape[:2]
        raise UserError(
            f"{trained.entry.name}: cannot take {width}x{height} pixels ({type(error).__name__}: {error}); name a part "
            f"of the training's size with --window X,Y,{trained.input_size}"
        ) from error
    size = pixels.shape[0], pixels.shape[1]
    stages = (
        feature_maps.stage(str(source), features, padded, size, channel)
        for source, features in zip(sources, maps, strict=True)
    )
    return feature_maps.Encoder(trained.entry.display, trained.label, tuple(stages))


def find(network: nn.Module, image: Tensor) -> list[MapSource]:
    """Return the stages of an encoder in eval mode by this file's rule, from an image ``(1, C, H, W)``.

    Raises:
        UserError: no module returns a map.
    """
    maps = trace(network, image)
    stages = _returned_together(maps) or _falling(maps)
    if not stages:
        raise UserError("no module returns a map before the logits; name modules with --at")
    return [stage.source for stage in stages]


def _returned_together(maps: Sequence[StageMaps]) -> list[StageMaps]:
    """Return the maps of the module that returns most maps of falling size, or none."""
    groups: dict[tuple[str, int | None], list[StageMaps]] = {}
    for stage in maps:
        if stage.source.part is not None:
            groups.setdefault((stage.source.module, stage.source.call), []).append(stage)
    falling = [
        group
        for group in groups.values()
        if len(group) > 1 and all(_smaller(b.size, a.size) for a, b in pairwise(group))
    ]
    return max(falling, key=lambda group: (len(group), -group[0].source.nesting), default=[])


def _falling(maps: Sequence[StageMaps]) -> list[StageMaps]:
    """Return one map of each size while sizes fall."""
    stages: list[StageMaps] = []
    for stage in maps:
        if stage.size == (1, 1):
            continue
        if not stages or _smaller(stage.size, stages[-1].size):
            stages.append(stage)
        elif stage.size == stages[-1].size:
            stages[-1] = max(stage, stages[-1], key=lambda stage: (-stage.source.nesting, stage.depth))
        elif any(side > last for side, last in zip(stage.size, stages[-1].size, strict=True)):
            break
    return stages


def _smaller(size: tuple[int, int], other: tuple[int, int]) -> bool:
    return size[0] < other[0] and size[1] < other[1]


def trace(network: nn.Module, image: Tensor) -> list[StageMaps]:
    """Return the modules' maps of an image ``(1, C, H, W)`` in the order of return, up to the logits."""
    # The graph of gradients knows all operations between image and map; no tensor is saved for it. The first layer may
    # overwrite a copy, but no leaf.
    image = image.detach().requires_grad_().clone()
    seen: list[tuple[MapSource, tuple[int, int], Node | None]] = []
    logits = 0
    calls: Counter[str] = Counter()

    def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
        nonlocal logits
        calls[name] += 1
        if next(module.parameters(recurse=False), None) is not None:
            logits = len(seen)
        for part, features in _maps(output):
            if features.data_ptr() != image.data_ptr():
                size = features.shape[2], features.shape[3]
                seen.append((MapSource(name, part, calls[name]), size, features.grad_fn))

    with (
        _hooked({name: module for name, module in network.named_modules() if name}, note),
        torch.enable_grad(),
        saved_tensors_hooks(lambda _: None, lambda nothing: nothing),
    ):
        network(image)
    depths: dict[Node, int] = {}
    return [StageMaps(source, size, _depth(node, depths)) for source, size, node in seen[:logits]]


def take(network: nn.Module, image: Tensor, sources: Sequence[MapSource]) -> list[NDArray[np.float32]]:
    """Return maps ``(channels, h, w)`` of an image ``(1, C, H, W)``, copied before later operations overwrite them.

    Raises:
        UserError: there is no such module, or it returns no such map.
    """
    modules = dict(network.named_modules())
    for source in sources:
        if not source.module or source.module not in modules:
            raise UserError(
                f"--at {source}: no such module{did_you_mean(source.module, modules)}; the outermost ones are "
                f"{', '.join(name for name, _ in network.named_children())}"
            )
    maps: dict[MapSource, NDArray[np.float32]] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, module: nn.Module, _: Any, output: Any) -> None:
        calls[name] += 1
        parts = dict(_maps(output))
        for source in sources:
            if source.module == name and source.call in (None, calls[name]) and source.part in parts:
                maps[source] = parts[source.part][0].float().numpy(force=True).copy()

    with _hooked({source.module: modules[source.module] for source in sources}, keep), torch.inference_mode():
        network(image)
    for source in sources:
        if source not in maps:
            raise UserError(f"--at {source}: returns no map (1, channels, h, w) there; name another module")
    return [maps[source] for source in sources]


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Call a hook with the module's name after every forward; remove it in any case."""
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(hook, name)).remove)
        yield


def _maps(output: Any) -> list[tuple[int | None, Tensor]]:
    """Return the maps ``(1, channels, h, w)`` in a module's output, with their number in a collection."""
    values = output.values() if isinstance(output, Mapping) else output
    alone = not isinstance(output, Mapping | list | tuple)
    parts: list[tuple[int | None, Any]] = [(None, output)] if alone else list(enumerate(values))
    return [(part, value) for part, value in parts if isinstance(value, Tensor) and value.ndim == 4 and len(value) == 1]


def _depth(node: Node | None, known: dict[Node, int]) -> int:
    """Return the length of the longest chain of operations that ends at a node; recursion would be too deep."""
    if node is None:
        return 0
    waiting = [node]
    while waiting:
        before = [earlier for earlier, _ in waiting[-1].next_functions if earlier is not None]
        if missing := [earlier for earlier in before if earlier not in known]:
            waiting += missing
        else:
            known[waiting.pop()] = 1 + max((known[earlier] for earlier in before), default=0)
    return known[node]
