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
    """Where a map comes from.

    Attributes:
        module: dotted name in the network.
        part: which of several maps that the module returns; ``None`` for one that returns a map alone.
        call: which of the module's calls, from 1; ``None`` for the last.
    """

    module: str
    part: int | None = None
    call: int | None = None

    def __str__(self) -> str:
        """Return what users call it: ``down_2``, ``encoder[3]``."""
        return self.module if self.part is None else f"{self.module}[{self.part}]"

    @property
    def nesting(self) -> int:
        """How many modules the module lies in."""
        return self.module.count(".")

    @classmethod
    def parse(cls, text: str) -> MapSource:
        """Read what :meth:`__str__` writes."""
        indexed = re.fullmatch(r"(.+)\[(\d+)\]", text)
        return cls(indexed[1], int(indexed[2])) if indexed else cls(text)


@dataclass(frozen=True)
class StageMaps:
    """A map that a module returned; ``depth`` is the longest chain of operations behind it."""

    place: MapSource
    size: tuple[int, int]
    depth: int


def encoder(
    trained: TrainedNetwork, pixels: UInt8Array, channel: feature_maps.Channel, at: str = ""
) -> feature_maps.Encoder:
    """Let a trained network see an image and return its stages' maps.

    Args:
        trained: the network.
        pixels: ``(H, W, C)`` uint8 of as many channels as it takes; mirrored to a size that it takes.
        channel: what stands for a stage's channels.
        at: comma list of modules to take in place of the rule's stages.

    Raises:
        UserError: the weights cannot be read, the network refuses the image, or it has no such module or stage.
    """
    network = trained.build()
    padded = feature_maps.pad(pixels, trained.entry.multiple)
    image = torch.from_numpy(padded).permute(2, 0, 1)[None].float().div_(255)
    try:
        places = [MapSource.parse(name.strip()) for name in at.split(",")] if at else find(network, image)
        maps = take(network, image, places)
        for place, features in zip(places, maps, strict=True):
            if not np.isfinite(features).all():
                raise UserError(f"{place} returns values that are not finite; train that study again")
    except UserError as error:
        raise UserError(f"{trained.entry.name}: {error}") from error
    except Exception as error:  # a user's network may raise anything
        height, width = padded.shape[:2]
        raise UserError(
            f"{trained.entry.name}: cannot take {width}x{height} pixels ({type(error).__name__}: {error}); name a part "
            f"of the training's size with --window X,Y,{trained.input_size}"
        ) from error
    size = pixels.shape[0], pixels.shape[1]
    found = (
        feature_maps.stage(str(place), features, padded, size, channel)
        for place, features in zip(places, maps, strict=True)
    )
    return feature_maps.Encoder(trained.entry.display, trained.label, tuple(found))


def find(network: nn.Module, image: Tensor) -> list[MapSource]:
    """Return the stages of a network's encoder by the rule at the top of this file.

    Args:
        network: in eval mode; hooks are removed again.
        image: ``(1, C, H, W)``.

    Raises:
        UserError: no module returns a map.
    """
    made = trace(network, image)
    found = _returned_together(made) or _falling(made)
    if not found:
        raise UserError("no module returns a map before the logits; name modules with --at")
    return [one.place for one in found]


def _returned_together(made: Sequence[StageMaps]) -> list[StageMaps]:
    """Return the maps of the module that returns most of falling size, or none."""
    groups: dict[tuple[str, int | None], list[StageMaps]] = {}
    for one in made:
        if one.place.part is not None:
            groups.setdefault((one.place.module, one.place.call), []).append(one)
    falling = [
        group
        for group in groups.values()
        if len(group) > 1 and all(_smaller(b.size, a.size) for a, b in pairwise(group))
    ]
    return max(falling, key=lambda group: (len(group), -group[0].place.nesting), default=[])


def _falling(made: Sequence[StageMaps]) -> list[StageMaps]:
    """Return one map of each size while sizes fall."""
    found: list[StageMaps] = []
    for one in made:
        if one.size == (1, 1):
            continue
        if not found or _smaller(one.size, found[-1].size):
            found.append(one)
        elif one.size == found[-1].size:
            found[-1] = max(one, found[-1], key=lambda made: (-made.place.nesting, made.depth))
        elif any(ours > theirs for ours, theirs in zip(one.size, found[-1].size, strict=True)):
            break
    return found


def _smaller(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] and one[1] < other[1]


def trace(network: nn.Module, image: Tensor) -> list[StageMaps]:
    """Return the maps that modules make of an image, in the order in which they are returned, up to the logits.

    Args:
        network: in eval mode.
        image: ``(1, C, H, W)``.
    """
    # What is differentiated with respect to the image knows all operations between them; nothing is kept for that. The
    # copy may be overwritten by the network's first layer, which a leaf may not.
    image = image.detach().requires_grad_().clone()
    seen: list[tuple[MapSource, tuple[int, int], Node | None]] = []
    logits = 0
    calls: Counter[str] = Counter()

    def note(name: str, module: nn.Module, _: Any, output: Any) -> None:
        nonlocal logits
        calls[name] += 1
        if next(module.parameters(recurse=False), None) is not None:
            logits = len(seen)
        for part, made in _maps(output):
            if made.data_ptr() != image.data_ptr():
                seen.append((MapSource(name, part, calls[name]), (made.shape[2], made.shape[3]), made.grad_fn))

    with (
        _hooked({name: module for name, module in network.named_modules() if name}, note),
        torch.enable_grad(),
        saved_tensors_hooks(lambda _: None, lambda nothing: nothing),
    ):
        network(image)
    depths: dict[Node, int] = {}
    return [StageMaps(place, size, _depth(node, depths)) for place, size, node in seen[:logits]]


def take(network: nn.Module, image: Tensor, places: Sequence[MapSource]) -> list[NDArray[np.float32]]:
    """Return maps ``(channels, h, w)``, copied before a later operation may overwrite them.

    Args:
        network: in eval mode; hooks are removed again.
        image: ``(1, C, H, W)``.
        places: which ones.

    Raises:
        UserError: there is no such module, or it returns no such map.
    """
    modules = dict(network.named_modules())
    for place in places:
        if not place.module or place.module not in modules:
            raise UserError(
                f"--at {place}: no such module{did_you_mean(place.module, modules)}; the outermost ones are "
                f"{', '.join(name for name, _ in network.named_children())}"
            )
    taken: dict[MapSource, NDArray[np.float32]] = {}
    calls: Counter[str] = Counter()

    def keep(name: str, module: nn.Module, _: Any, output: Any) -> None:
        calls[name] += 1
        made = dict(_maps(output))
        for place in places:
            if place.module == name and place.call in (None, calls[name]) and place.part in made:
                taken[place] = made[place.part][0].float().numpy(force=True).copy()

    with _hooked({place.module: modules[place.module] for place in places}, keep), torch.inference_mode():
        network(image)
    for place in places:
        if place not in taken:
            raise UserError(f"--at {place}: returns no map (1, channels, h, w) there; name another module")
    return [taken[place] for place in places]


@contextmanager
def _hooked(modules: Mapping[str, nn.Module], hook: Callable[[str, nn.Module, Any, Any], None]) -> Iterator[None]:
    """Call a hook with the module's name after every forward, and remove it whatever happens."""
    with ExitStack() as stack:
        for name, module in modules.items():
            stack.callback(module.register_forward_hook(partial(hook, name)).remove)
        yield


def _maps(output: Any) -> list[tuple[int | None, Tensor]]:
    """Return the maps ``(1, channels, h, w)`` in what a module returned, with their number where it is a collection."""
    parts: list[tuple[int | None, Any]]
    if isinstance(output, Mapping):
        parts = list(enumerate(output.values()))
    else:
        parts = list(enumerate(output)) if isinstance(output, list | tuple) else [(None, output)]
    return [(part, made) for part, made in parts if isinstance(made, Tensor) and made.ndim == 4 and len(made) == 1]


def _depth(node: Node | None, known: dict[Node, int]) -> int:
    """Return how many operations the longest chain that ends in one has; without recursion, which is too deep."""
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
