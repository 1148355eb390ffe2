"""Counts the bytes that a network's operators read and write, without computing anything."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from models.attention import attention_by

#: Operators that overwrite their first tensor, by their names without the overload.
OVERWRITING = frozenset({"copy_", "fill_", "zero_"})


def count_traffic(network: nn.Module, image_shape: Sequence[int]) -> tuple[int, int]:
    """Count the bytes that the operators of one forward read and write.

    Each operator reads its inputs and weights once and writes its outputs once; no operators are fused, and no tensor
    stays in a cache between two operators. Views, reshapes without a copy and allocations are free. Attention is one
    operator that reads queries, keys and values and writes its output; its matrix stays on the processor, as in the
    measured kernels.

    Args:
        network: on the meta device, in eval mode, in the number format that is counted.
        image_shape: ``(N, C, H, W)`` of the input.

    Returns:
        Bytes read, bytes written.
    """
    dtype = next((parameter.dtype for parameter in network.parameters()), None)
    image = torch.empty(image_shape, device="meta", dtype=dtype)
    operators = _Operators()
    # Inference mode would show composite operators as one, including their views.
    with torch.device("meta"), torch.no_grad(), attention_by(network, _attend), operators, _WholeAttention(operators):
        network(image)
    return operators.read, operators.written


def _attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, scale=1.0)


class _Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook unannotated
    """Sums the bytes that every operator reads and writes; composite operators count by their parts."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.read = self.written = 0
        self.paused = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if not self.paused:
            self._add(func, args, kwargs, out)
        return out

    def _add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        inputs, outputs = _tensors((args, kwargs)), _tensors(out)
        storages = {_storage(tensor) for tensor in inputs}
        if not func._schema.is_mutable and all(_storage(tensor) in storages for tensor in outputs):
            return  # a view
        name = func.overloadpacket.__name__
        if "empty" in name:
            return
        if name in OVERWRITING:
            inputs = _tensors((args[1:], kwargs))
        elif name.startswith("new_") or name.endswith("_like"):
            inputs = []  # only their shape is read
        else:
            targets = {argument.name for argument in func._schema.arguments if argument.is_out}
            inputs = _tensors((args, [value for key, value in kwargs.items() if key not in targets]))
        self.add(inputs, outputs)

    def add(self, inputs: Iterable[Tensor], outputs: Iterable[Tensor]) -> None:
        """Count one operator by its inputs and outputs."""
        self.read += sum(map(_bytes, inputs))
        self.written += sum(map(_bytes, outputs))


class _WholeAttention(TorchFunctionMode):
    """Counts attention as one operator, independent of the form that the meta device takes."""

    def __init__(self, operators: _Operators) -> None:
        super().__init__()
        self.operators = operators

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        self.operators.paused = True
        try:
            out = func(*args, **kwargs)
        finally:
            self.operators.paused = False
        self.operators.add(_tensors((args, kwargs)), [out])
        return out


def _tensors(values: Any) -> list[Tensor]:
    """Return the tensors among nested values, each object once."""
    return list({id(leaf): leaf for leaf in tree_leaves(values) if isinstance(leaf, Tensor)}.values())


def _storage(tensor: Tensor) -> int:
    storage: int = tensor.untyped_storage()._cdata
    return storage


def _bytes(tensor: Tensor) -> int:
    """Return the bytes of a tensor's elements; an element that a view repeats counts once."""
    distinct = 1
    for extent, step in zip(tensor.shape, tensor.stride(), strict=True):
        distinct *= extent if step or not extent else 1
    return min(distinct * tensor.element_size(), tensor.untyped_storage().nbytes())
