"""Counting a network's multiply-accumulates (MACs) per operator, without computing anything."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from models.attention import plain_attention

with warnings.catch_warnings():
    # fvcore scripts a loss while it is imported; from torch 2.13 on that is deprecated.
    warnings.filterwarnings("ignore", message="`torch.jit.script` is deprecated")
    from fvcore.nn.flop_count import FlopCountAnalysis
    from fvcore.nn.jit_handles import get_shape

# torch._C.Value has no usable annotations: a node's inputs and outputs.
Values = list[Any]

#: How far fvcore's count and torch's own may lie apart, as a fraction.
TOLERANCE = 0.01


class MacCountError(ValueError):
    """The MACs of a network cannot be told; the message names the operator or the two counts that disagree."""


def _shape(value: Any) -> list[int]:
    shape = get_shape(value)
    if shape is None:
        raise MacCountError(
            "a traced tensor has no known shape; expected a forward whose shapes depend on the input's alone"
        )
    return shape


def _matmul(inputs: Values, outputs: Values) -> int:
    """Count ``a @ b`` in all of torch's shapes: each output element is a dot product over a's last axis."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _added_matmul(inputs: Values, outputs: Values) -> int:
    """Count ``c + a @ b``; the addition is elementwise and free."""
    return _matmul(inputs[1:], outputs)


def _convolution(inputs: Values, outputs: Values) -> Counter[str]:
    """Count the kernel once per output position, of a transposed convolution once per input position."""
    transposed = len(inputs) > 6 and inputs[6].toIValue() is True  # aten::_convolution_mode has no such argument
    image, weight = _shape(inputs[0]), _shape(inputs[1])
    positions = image if transposed else _shape(outputs[0])
    macs = positions[0] * math.prod(positions[2:]) * math.prod(weight)
    return Counter({"conv_transpose" if transposed else "conv": macs})


def _einsum(inputs: Values, outputs: Values) -> int:
    """Count one MAC per combination of the indices that are left once each operand is summed on its own.

    An einsum of one operand, or one that sums over no index of both, multiplies elementwise at most and is free.
    """
    equation: str = inputs[0].toIValue().replace(" ", "")
    operands, arrow, output = equation.partition("->")
    terms = operands.split(",")
    if len(terms) > 2 or "." in equation:
        raise MacCountError(f"einsum {equation!r}: expected one or two operands and every index spelled out")
    sizes: dict[str, int] = {}
    for term, value in zip(terms, inputs[1].node().inputs(), strict=True):
        for index, size in zip(term, _shape(value), strict=True):
            sizes[index] = max(size, sizes.get(index, 1))
    shared = {index for index in sizes if all(index in term for term in terms)}
    # Without an arrow, the indices that occur once are the output's.
    kept = set(output) if arrow else set(sizes) - shared
    if len(terms) == 1 or shared <= kept:
        return 0
    return math.prod(sizes[index] for index in shared | kept)


def _attention(inputs: Values, outputs: Values) -> int:
    """Count ``N_q * N_k * (d_k + d_v)`` per head: the scores and the weighted sum, whichever kernel runs."""
    queries, keys, output = _shape(inputs[0]), _shape(inputs[1]), _shape(outputs[0])
    return math.prod(output[:-1]) * keys[-2] * (queries[-1] + output[-1])


#: Operators that cost MACs, by their name in a JIT trace without ``aten::``. Any: fvcore's own type leaves int out.
COUNTED: Mapping[str, Callable[[Values, Values], Any]] = {
    "_convolution": _convolution,
    "_convolution_mode": _convolution,
    "linear": _matmul,
    "addmm": _added_matmul,
    "baddbmm": _added_matmul,
    "bmm": _matmul,
    "dot": _matmul,
    "matmul": _matmul,
    "mm": _matmul,
    "mv": _matmul,
    "einsum": _einsum,
    "scaled_dot_product_attention": _attention,
}

#: Operators that cost none by the convention of the field, by kind, also where their names end in ``_`` (in place).
FREE_BY_KIND: Mapping[str, str] = {
    "elementwise": """
        abs add addcdiv addcmul bitwise_and bitwise_not bitwise_or clamp clamp_max clamp_min clip cos div eq erf exp
        floor floor_divide fmod ge gt le lerp log log1p logical_and logical_not logical_or lt masked_fill maximum
        minimum mul ne neg pow reciprocal remainder round rsqrt rsub sign sin sqrt square sub true_divide where __and__
        __or__""",
    "activation and dropout": """
        celu dropout elu feature_dropout gelu glu hardsigmoid hardswish hardtanh leaky_relu log_sigmoid log_softmax
        mish prelu relu relu6 rrelu selu sigmoid silu softmax softplus tanh threshold""",
    "normalisation": "batch_norm group_norm instance_norm layer_norm rms_norm",
    "pooling, resizing, padding": """
        _upsample_bilinear2d_aa adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d affine_grid_generator
        avg_pool1d avg_pool2d channel_shuffle col2im constant_pad_nd grid_sampler im2col max_pool1d max_pool2d
        max_pool2d_with_indices pad pixel_shuffle pixel_unshuffle reflection_pad2d replication_pad2d upsample_bicubic2d
        upsample_bilinear2d upsample_nearest2d""",
    "reduction": """
        all amax amin any argmax argmin cumsum linalg_vector_norm logsumexp max mean min norm prod std std_mean sum
        topk var var_mean""",
    "shape, copy, new tensor": """
        Bool Float Int ScalarImplicit alias arange as_strided broadcast_tensors broadcast_to cat chunk clone
        contiguous copy cpu cuda detach diag diagonal embedding empty empty_like expand expand_as fill flatten flip full
        full_like gather index index_add index_put index_select item lift_fresh linspace mT meshgrid movedim narrow
        new_empty new_full new_ones new_zeros nonzero numpy_T ones ones_like permute repeat repeat_interleave reshape
        reshape_as resolve_conj roll scatter scatter_add select size slice split split_with_sizes squeeze stack
        swapaxes t tensor_split tile to transpose tril triu type_as unbind unflatten unfold unsqueeze view view_as zero
        zeros zeros_like""",
}
FREE = frozenset(name for names in FREE_BY_KIND.values() for name in names.split())


def count_macs(network: nn.Module, image_shape: Sequence[int]) -> dict[str, int]:
    """Count the MACs of one forward per operator, largest first.

    fvcore reads the operators and their shapes off a JIT trace on the meta device. Convolutions, transposed ones,
    linear layers, matrix products and attention count; everything on :data:`FREE` does not. The position attention of
    EAL-ICNet is counted in its plain form. The sum is checked against torch's FlopCounterMode.

    Args:
        network: on the meta device, in eval mode.
        image_shape: ``(N, C, H, W)`` of the input.

    Raises:
        MacCountError: an operator is neither counted nor known to be free, or the two counts disagree.
    """
    image = torch.empty(image_shape, device="meta")
    # Tensors that a forward makes by itself, such as a coordinate grid, join the others on the meta device.
    with torch.device("meta"), plain_attention(network):
        by_operator = _count_with_fvcore(network, image)
        reference = _count_with_torch(network, image)
    total = sum(by_operator.values())
    if abs(total - reference) > TOLERANCE * max(total, reference):
        raise MacCountError(f"fvcore counts {total} MACs and torch {reference}; expected them within {TOLERANCE:.0%}")
    return by_operator


def _count_with_fvcore(network: nn.Module, image: Tensor) -> dict[str, int]:
    analysis = FlopCountAnalysis(network, image)
    # fvcore's own handles count normalisation and resizing, and its matmul does not broadcast: only ours are left.
    # Its warnings go, since an unknown operator is an error below and layers that never run are listed as parameters.
    analysis.clear_op_handles().unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.set_op_handle(**{f"aten::{name}": handle for name, handle in COUNTED.items()})
    # A trace warns where Python code looks at a size; the trace is used for this size alone.
    analysis.tracer_warnings("no_tracer_warning")
    with _RecordedConvolutions():
        counts = analysis.by_operator()
    unknown = sorted(name for name in analysis.unsupported_ops() if _plain_name(name) not in FREE)
    if unknown:
        raise MacCountError(
            f"no rule for the MACs of {', '.join(unknown)}; add each to COUNTED or FREE in benchmark/efficiency/macs.py"
        )
    return {name: int(macs) for name, macs in counts.most_common() if macs}


def _plain_name(kind: str) -> str:
    name = kind.removeprefix("aten::")
    return name if name.startswith("__") else name.removesuffix("_")


def _count_with_torch(network: nn.Module, image: Tensor) -> int:
    # The MATH backend computes attention by plain matrix products, so nothing depends on a fused kernel's formula.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    return int(counter.get_total_flops()) // 2


class _RecordedConvolutions(TorchFunctionMode):
    """Make convolutions visible to a JIT trace on the meta device.

    The tracer records ``aten::_convolution``, which a convolution's compiled kernels pass through. The meta device's
    kernel is written in Python and does not, so the operator is called by that name.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:  # the signature is torch's
        kwargs = kwargs or {}
        if func in (torch.conv1d, torch.conv2d, torch.conv3d):
            return _call_convolution(func, *args, **kwargs)
        if func in (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d):
            return _call_transposed_convolution(*args, **kwargs)
        return func(*args, **kwargs)


_Extent = int | Sequence[int]


def _call_convolution(
    func: Callable[..., Tensor],
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Extent = 1,
    padding: _Extent | str = 0,
    dilation: _Extent = 1,
    groups: int = 1,
) -> Tensor:
    if isinstance(padding, str):  # recorded as aten::_convolution_mode
        return func(image, weight, bias, stride, padding, dilation, groups)
    return _recorded(image, weight, bias, stride, padding, dilation, groups, output_padding=0, transposed=False)


def _call_transposed_convolution(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: _Extent = 1,
    padding: _Extent = 0,
    output_padding: _Extent = 0,
    groups: int = 1,
    dilation: _Extent = 1,
) -> Tensor:
    return _recorded(image, weight, bias, stride, padding, dilation, groups, output_padding, transposed=True)


def _recorded(
    image: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: _Extent,
    padding: _Extent,
    dilation: _Extent,
    groups: int,
    output_padding: _Extent,
    *,
    transposed: bool,
) -> Tensor:
    def per_axis(extent: _Extent) -> list[int]:
        values = [extent] if isinstance(extent, int) else list(extent)
        return values * (weight.ndim - 2) if len(values) == 1 else values

    return torch._convolution(
        image,
        weight,
        bias,
        per_axis(stride),
        per_axis(padding),
        per_axis(dilation),
        transposed,
        per_axis(output_padding),
        groups,
        benchmark=False,
        deterministic=False,
        cudnn_enabled=False,
        allow_tf32=False,
    )
