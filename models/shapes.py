"""Follows shapes through a network on torch's meta device quickly."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

#: Functions that give a map of their input's shape. Torch's meta device takes milliseconds for each, in Python.
SHAPE_KEPT = (F.batch_norm, torch.prelu)


class QuickShapes(TorchFunctionMode):
    """Returns empty maps in place of norms in eval mode and slopes, for networks on the meta device."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}  # batch_norm tells all but its tensors by name
        if func in SHAPE_KEPT and args and not kwargs.get("training"):
            return torch.empty_like(args[0])
        return func(*args, **kwargs)


def shadow(network: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device; no weight is copied."""
    weights = {
        id(weight): nn.Parameter(weight.detach().to("meta"), weight.requires_grad) for weight in network.parameters()
    }
    return copy.deepcopy(network, weights).to("meta")
