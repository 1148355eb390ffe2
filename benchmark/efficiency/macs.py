"""Counts a network's multiply-accumulates (MACs) per operator, without computing anything."""

from __future__ import annotations

import copy
import math
import re
import warnings
from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from benchmark.efficiency.memory import reason
from models.attention import plain_attention
from models.shapes import QuickShapes

#: Largest relative difference between the counts of fvcore and torch.
TOLERANCE = 0.01

#: Parts of the names of operators that cost no MACs by the convention of the field. Elementwise operators and views
#: are free, too; torch tags nearly all of them.
FREE = re.compile(
    "softmax|gelu|glu|prelu|hardswish|mish|threshold|rsub|divide|norm"
    "|pool|upsample|grid|pad|im2col|col2im|pixel|shuffle"
    "|sum|prod|mean|std|var|max|min|all|any|topk|sort"
    "|arange|empty|eye|fill|full|linspace|ones|rand|scalar|zero"
    "|cat|check|clone|copy|diag|embedding|flip|gather|index|lift|masked|repeat|roll|scatter|stack|tri[lu]|unsafe_view"
)


def _vector_product_flops(first: Sequence[int], second: Sequence[int], **_: Any) -> int:
    return 2 * math.prod(first)


#: Products with a vector, which torch leaves out, and their FLOPs by the operands' shapes.
VECTOR_PRODUCTS = dict.fromkeys((torch.ops.aten.mv, torch.ops.aten.dot), _vector_product_flops)


def count_macs(network: nn.Module, image_shape: Sequence[int]) -> tuple[dict[str, int], list[str]]:
    """Count the MACs of one forward by torch's :class:`~torch.utils.flop_counter.FlopCounterMode`.

    Convolutions, transposed convolutions, linear layers, matrix products and attention count. The position attention
    of EAL-ICNet counts in its plain form.

    Args:
        network: on the meta device, in eval mode.
        image_shape: ``(N, C, H, W)`` of the input.

    Returns:
        The MACs per operator, largest first, and the operators that cost MACs which torch does not count.
    """
    uncounted = _Uncounted()
    # Tensors that a forward creates itself, such as a coordinate grid, lie on the meta device too. The MATH backend
    # computes attention by plain matrix products, so the count does not depend on the formula of a fused kernel.
    with (
        torch.device("meta"),
        torch.no_grad(),
        plain_attention(network),
        sdpa_kernel(SDPBackend.MATH),
        uncounted,
        FlopCounterMode(display=False, custom_mapping=VECTOR_PRODUCTS) as counter,
        _ByFunction(counter) as by_function,
    ):
        network(torch.empty(image_shape))
    return dict(by_function.macs.most_common()), sorted(uncounted.operators)


def compare_with_fvcore(network: nn.Module, image_shape: Sequence[int]) -> list[str]:
    """Compare torch's count with fvcore's for the operators that both know.

    Args:
        network: on the CPU, in eval mode.
        image_shape: ``(N, C, H, W)`` of the input; fvcore computes a forward of it, so a small one is enough.

    Returns:
        Notes on counts that differ, or on the reason why fvcore has none. Exceptions of fvcore become notes too.
    """
    network = copy.deepcopy(network)  # a forward may keep tensors of this image's size
    try:
        with warnings.catch_warnings(), torch.no_grad(), plain_attention(network):
            warnings.simplefilter("ignore")  # torch warns that a trace fits one size, the only one used here
            from fvcore.nn.flop_count import FlopCountAnalysis
            from fvcore.nn.jit_handles import conv_flop_count, get_shape

            def padded_by_name(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
                image, weight, output = (get_shape(value) or [] for value in (*inputs[:2], outputs[0]))
                macs: Any = conv_flop_count(image, weight, output)
                return Counter(conv=macs)

            analysis = FlopCountAnalysis(network, torch.zeros(image_shape))
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
            analysis.set_op_handle("aten::_convolution_mode", padded_by_name)
            theirs = analysis.by_operator()
    except Exception as error:  # a trace can fail in many ways
        return [f"fvcore has not checked the MACs: {reason(error)}"]
    ours: Counter[str] = Counter()
    for name, macs in count_macs(network.to("meta"), image_shape)[0].items():
        ours[name.removesuffix("_transpose")] += macs  # fvcore does not distinguish the two
    return [
        f"fvcore counts {theirs[name]:.0f} MACs for {name} at {image_shape[2]}x{image_shape[3]}, and torch {macs}"
        for name, macs in ours.items()
        if name in theirs and abs(theirs[name] - macs) > TOLERANCE * macs
    ]


def _is_elementwise_or_view(name: str) -> bool:
    # The tags of abs_ are those of abs.
    packet = getattr(torch.ops.aten, name.rstrip("_"), None)
    operators = [getattr(packet, overload) for overload in packet.overloads()] if packet else []
    return any(torch.Tag.pointwise in operator.tags or operator.is_view for operator in operators)


class _ByFunction(QuickShapes):
    """Divides the MACs of a counter by the function that the network called; norms cost none."""

    def __init__(self, counter: FlopCounterMode) -> None:
        super().__init__()
        self.counter = counter
        self.macs: Counter[str] = Counter()

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        before = self.counter.get_total_flops()
        output = super().__torch_function__(func, types, args, kwargs)
        if flops := self.counter.get_total_flops() - before:
            self.macs[re.sub(r"\dd$", "", func.__name__.strip("_"))] += flops // 2
        return output


class _Uncounted(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves its hook unannotated
    """Collects the operators that cost MACs which torch does not count."""

    supports_higher_order_operators = True

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operators: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        if not {func, getattr(func, "overloadpacket", None)} & (flop_registry.keys() | VECTOR_PRODUCTS.keys()):
            name = func.__name__.partition(".")[0]
            if not (FREE.search(name) or _is_elementwise_or_view(name)):
                self.operators.add(name)
        return func(*args, **(kwargs or {}))
