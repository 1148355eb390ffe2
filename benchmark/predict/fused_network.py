"""Folds batch norms into convolutions and sets channels last, for faster inference."""

from __future__ import annotations

import copy
import operator
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._pytree import tree_leaves

from benchmark.devices.precision import tf32
from benchmark.evaluation.ensemble import averaged
from benchmark.predict.row_attention import row_attention
from models.attention import PositionAttention, plain_attention, position_attention
from models.shapes import QuickShapes, shadow

if TYPE_CHECKING:
    from benchmark.records.weights import TrainedNetwork

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
#: Activations that oneDNN's convolutions compute, by oneDNN's names.
JOINED = {nn.ReLU: "relu", nn.SiLU: "swish"}
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": nn.functional.relu, "swish": nn.functional.silu}
#: Activations that can write into the map they are given.
IN_PLACE = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.SiLU)

#: Largest difference by another order of sums, as a share of the largest logit or of 1, whichever is larger.
TOLERANCE = 1e-4
SIDE = 128  # pixels, about, of the image that shows how layers follow each other

#: Pixels beside a row that oneDNN's depthwise kernels pad by themselves with AVX2 (with AVX-512, 6). With more, as wide
#: dilations need, it takes matrix products instead, channels last and without AVX-512 up to 30 times slower.
PADDED_BY_KERNELS = 4

#: Layer of segmentation_models_pytorch's convolutions, in EfficientNet, that pads before they convolve without padding.
PADDING_OF_SMP = "static_padding"

Dtype = Literal["float32", "bfloat16"]


class _Call(NamedTuple):
    """A use of a layer."""

    name: str
    input: Tensor
    output: Tensor


class _Uses(QuickShapes):
    """Counts the uses of each tensor by functions of torch, without questions for its shape and the like."""

    def __init__(self) -> None:
        super().__init__()
        self.of: Counter[int] = Counter()
        self._held: list[Tensor] = []  # or else a later tensor gets a dead one's identity

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = super().__torch_function__(func, types, args, kwargs)
        if result is None or any(isinstance(leaf, Tensor) for leaf in tree_leaves(result)):
            tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
            self._held += tensors
            self.of.update(map(id, tensors))
        return result


class FusedNetwork(nn.Module):
    """A network in eval mode that computes the same with fewer passes over memory; it cannot be trained.

    ``as_written`` is the reason for unchanged layers; empty where layers were changed.
    """

    def __init__(self, network: nn.Module, dtype: Dtype = "float32", as_written: str = "") -> None:
        super().__init__()
        self.as_written = as_written
        self.network = network.to(memory_format=torch.channels_last)
        self.dtype = getattr(torch, dtype)

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to logits ``(N, K, H, W)``."""
        with torch.autocast(images.device.type, dtype=self.dtype, enabled=self.dtype != torch.float32):
            logits: Tensor = self.network(channels_last(images))
        return logits


class _Packed(nn.Module):
    """A convolution on the CPU whose weights lie as oneDNN wants them, and the ``activation`` behind it.

    torch would bring the weights into that order in every forward, and pass over memory once more for the activation.
    With one thread, it would also leave oneDNN for most 1x1 kernels, and take twice as long. The order fits one size of
    images and one number format; others pack anew.
    """

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution, self.activation = convolution, "none"
        self._packed_for: tuple[torch.Size, torch.dtype] | None = None
        self._packed: tuple[Any, ...] = ()  # arguments behind the images

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` to maps ``(N, K, H', W')``."""
        # Compilers and runtimes do all this themselves, and oneDNN has no float64.
        if torch.compiler.is_compiling() or images.dtype == torch.float64:
            maps = nn.Conv2d.forward(self.convolution, images)  # of smp's layers, too, not their own with its padding
            return maps if self.activation == "none" else FUNCTIONS[self.activation](maps)
        if torch.is_autocast_enabled("cpu"):
            images = images.to(torch.get_autocast_dtype("cpu"))
        images = channels_last(images)
        if self._packed_for != (images.shape[2:], images.dtype):
            self._pack(images)
        convolved: Tensor = torch.ops.mkldnn._convolution_pointwise.default(images, *self._packed)
        return convolved

    def _pack(self, images: Tensor) -> None:
        layer = self.convolution
        how = (layer.padding, layer.stride, layer.dilation, layer.groups)
        weight = layer.weight.detach().to(images.dtype).to_mkldnn()
        weight = torch.ops.aten.mkldnn_reorder_conv2d_weight(weight, *how, images.shape)
        bias = None if layer.bias is None else layer.bias.detach().to(images.dtype)
        self._packed_for = images.shape[2:], images.dtype
        self._packed = (weight, bias, *how, self.activation, [], "")

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what is packed, which neither ``copy`` nor ``pickle`` can read."""
        return {**self.__dict__, "_packed_for": None, "_packed": ()}


def fuse_members(members: Sequence[TrainedNetwork], device: torch.device, dtype: Dtype = "float32") -> nn.Module:
    """Return a trained network, or an ensemble of several, ready for inference."""
    return averaged([fuse_trained(member, device, dtype) for member in members])


def as_written(network: nn.Module) -> str:
    """Return why layers of a network that is ready, or of an ensemble's, are unchanged; blank where none are."""
    reasons = (part.as_written for part in network.modules() if isinstance(part, FusedNetwork))
    return next(filter(None, reasons), "")


def fuse_trained(trained: TrainedNetwork, device: torch.device, dtype: Dtype = "float32") -> FusedNetwork:
    """Return a trained network of a study, ready for inference.

    Raises:
        UserError: weights that cannot be used.
    """
    multiple = trained.entry.multiple
    side = min(trained.input_size, -(-SIDE // multiple) * multiple)
    return ready(trained.build(device), (1, trained.channels, side, side), dtype)


def ready(network: nn.Module, image_shape: Sequence[int], dtype: Dtype = "float32") -> FusedNetwork:
    """Make a copy of a network ready for inference.

    A batch norm that alone reads the outputs of convolutions becomes part of these convolutions
    (``torch.nn.utils.fusion``). One forward on torch's meta device, which computes nothing, shows the order of layers.
    Activations between such layers write in place. On a CPU, an extra layer pads for depthwise convolutions with wide
    padding, weights are packed for oneDNN, a convolution computes the ReLU or SiLU behind it, and position attention
    goes by rows. A network that cannot run on the meta device, or whose logits for a random image change (by a
    convolution with its own use of its weights), keeps its norms.

    Args:
        network: stays unchanged.
        image_shape: ``(1, C, H, W)`` of a small input that the network takes.
        dtype: number format of convolutions and matrix products.
    """
    plain = copy.deepcopy(network).eval().requires_grad_(requires_grad=False)
    fast = copy.deepcopy(plain, {id(weight): weight for weight in plain.parameters()})  # replaced, never changed
    try:
        calls, uses = _follow(fast, image_shape)
    except (RuntimeError, NotImplementedError, TypeError, ValueError) as error:
        return FusedNetwork(plain, dtype, f"torch's meta device cannot run the network ({type(error).__name__})")
    layers = dict(fast.named_modules())
    _fold(fast, layers, calls, uses)
    _write_in_place(layers, calls, uses)
    if all(weight.device.type == "cpu" for weight in fast.parameters()):
        _pad_before(fast, calls)
        if _packs(dtype):
            _pack(fast, calls, uses)
            _attend_by_rows(fast)
    difference = _difference(plain, fast, image_shape)
    if not difference <= TOLERANCE:
        return FusedNetwork(plain, dtype, f"with folded norms its logits differ by {difference:.1e}")
    return FusedNetwork(fast, dtype)


def channels_last(images: Tensor) -> Tensor:
    """Return images ``(N, C, H, W)`` with the strides of channels last, also for a single channel.

    Otherwise a network that joins the image with its maps would leave the layout there.
    """
    n, c, h, w = images.shape
    if c == 1 and images.is_contiguous():
        return images.as_strided((n, 1, h, w), (h * w, 1, w, 1))
    return images.contiguous(memory_format=torch.channels_last)


def _difference(plain: nn.Module, fast: nn.Module, image_shape: Sequence[int]) -> float:
    """Return the largest difference of logits as a share of the largest logit, or of 1 if that is larger."""
    image = torch.rand(*image_shape, generator=torch.Generator().manual_seed(0))
    image = image.to(next((weight.device for weight in plain.parameters()), image.device))
    # TF32, in which a GPU's convolutions compute by default, rounds both forms apart by more than a wrong one differs.
    with torch.inference_mode(), tf32(convolutions=False, products=False):
        expected, logits = plain(image), fast(image)
    return float((expected - logits).abs().max() / expected.abs().max().clamp(min=1))


def _follow(network: nn.Module, image_shape: Sequence[int]) -> tuple[list[_Call], Counter[int]]:
    """Run a shadow of the network without computing; return the uses of its layers, and of tensors by identity."""
    calls: list[_Call] = []
    followed = shadow(network)

    def record(name: str, _: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        calls.append(_Call(name, inputs[0], output))

    for name, layer in followed.named_modules():
        if isinstance(layer, (*CONVOLUTIONS, nn.BatchNorm2d, *IN_PLACE)):
            layer.register_forward_hook(partial(record, name))
        if isinstance(layer, IN_PLACE):  # or else what it reads and what it writes would be one tensor
            _set_in_place(layer, on=False)
    with torch.inference_mode(), plain_attention(followed), _Uses() as uses:
        followed(torch.empty(*image_shape, device="meta"))
    return calls, uses.of


def _fold(network: nn.Module, layers: Mapping[str, nn.Module], calls: Sequence[_Call], uses: Counter[int]) -> None:
    times = Counter(call.name for call in calls)
    # A convolution that is used twice would need two sets of weights.
    makers = {
        id(call.output): call.name
        for call in calls
        if isinstance(layers[call.name], CONVOLUTIONS) and times[call.name] == 1 and _foldable(layers[call.name])
    }
    for name in {call.name for call in calls if _is_fixed(layers[call.name])}:
        inputs = [id(call.input) for call in calls if call.name == name]
        # All uses or none: several branches may share a norm.
        if all(tensor in makers and uses[tensor] == 1 for tensor in inputs):
            for tensor in inputs:
                convolution = network.get_submodule(makers[tensor])
                norm = layers[name]
                assert isinstance(convolution, CONVOLUTIONS)
                assert isinstance(norm, nn.BatchNorm2d)
                fused = fuse_conv_bn_eval(convolution, norm, isinstance(convolution, nn.ConvTranspose2d))
                network.set_submodule(makers[tensor], fused)
            network.set_submodule(name, nn.Identity())


def _write_in_place(layers: Mapping[str, nn.Module], calls: Sequence[_Call], uses: Counter[int]) -> None:
    """Let an activation overwrite the output of a convolution or norm that nothing else reads."""
    fresh = {id(call.output) for call in calls if isinstance(layers[call.name], (*CONVOLUTIONS, nn.BatchNorm2d))}
    for name in {call.name for call in calls if isinstance(layers[call.name], IN_PLACE)}:
        inputs = [id(call.input) for call in calls if call.name == name]
        if all(tensor in fresh and uses[tensor] == 1 for tensor in inputs):
            _set_in_place(layers[name], on=True)


def _set_in_place(activation: nn.Module, *, on: bool) -> None:
    setattr(activation, "inplace", on)  # noqa: B010  # nn.Module takes tensors and modules only


def _pad_before(network: nn.Module, calls: Sequence[_Call]) -> None:
    """Pad rows before depthwise convolutions that would otherwise leave oneDNN's depthwise kernels."""
    for name in {call.name for call in calls if call.name}:  # the network itself has none
        layer = network.get_submodule(name)
        if type(layer) is not nn.Conv2d or layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            continue
        above, beside = layer.padding
        if layer.groups == layer.in_channels == layer.out_channels and beside > PADDED_BY_KERNELS:
            layer.padding = (above, 0)
            network.set_submodule(name, nn.Sequential(nn.ZeroPad2d((beside, beside, 0, 0)), layer))


def _packs(dtype: Dtype) -> bool:
    """Tell whether torch packs weights of a number format on this machine."""
    if not hasattr(torch.ops.mkldnn, "_convolution_pointwise"):
        return False
    return dtype == "float32" or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def _pack(network: nn.Module, calls: Sequence[_Call], uses: Counter[int]) -> None:
    """Pack the weights of convolutions, and let them compute the activation that alone reads their outputs."""
    times = Counter(call.name for call in calls)
    makers: dict[int, _Packed] = {}  # convolution of each output, also of what was a norm's before it was folded
    activations: dict[str, list[int]] = {}
    for call in calls:
        layer = network.get_submodule(call.name)
        if isinstance(layer, nn.Conv2d) and call.name and times[call.name] == 1 and _is_packable(layer):
            makers[id(call.output)] = packed = _Packed(layer)
            padding = getattr(layer, PADDING_OF_SMP, None)
            network.set_submodule(call.name, packed if padding is None else nn.Sequential(padding, packed))
        elif type(layer) is nn.Identity and id(call.input) in makers:
            makers[id(call.output)] = makers[id(call.input)]
        elif type(layer) in JOINED:
            activations.setdefault(call.name, []).append(id(call.input))
    for name, inputs in activations.items():
        if all(tensor in makers and uses[tensor] == 1 for tensor in inputs):
            for tensor in inputs:
                makers[tensor].activation = JOINED[type(network.get_submodule(name))]
            network.set_submodule(name, nn.Identity())


def _attend_by_rows(network: nn.Module) -> None:
    for layer in network.modules():
        if isinstance(layer, PositionAttention) and layer.attend is position_attention:
            layer.attend = row_attention


def _is_packable(layer: nn.Conv2d) -> bool:
    """Tell whether a layer does nothing but pad with zeros, if at all, and convolve.

    A kernel that lies in the padding alone ends the process in oneDNN (of torch 2.14).
    """
    if not (type(layer) is nn.Conv2d or hasattr(layer, PADDING_OF_SMP)) or layer.padding_mode != "zeros":
        return False
    reach = [step * (length - 1) for step, length in zip(layer.dilation, layer.kernel_size, strict=True)]
    return not isinstance(layer.padding, str) and all(map(operator.ge, reach, layer.padding))


def _is_fixed(layer: nn.Module) -> bool:
    """Tell whether a layer is a batch norm that, in eval mode, is the same scale and shift for every image."""
    return type(layer) is nn.BatchNorm2d and layer.running_mean is not None


def _foldable(layer: nn.Module) -> bool:
    # torch's own fusion scales a transposed convolution's outputs as if it had one group.
    return not isinstance(layer, nn.ConvTranspose2d) or layer.groups == 1
