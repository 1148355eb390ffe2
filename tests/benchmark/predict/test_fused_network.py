"""Networks made ready for inference: what is folded, what must not be, and that the numbers stay."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.predict.fused_network import PADDED_BY_KERNELS, channels_last, ready

SHAPE = (1, 3, 16, 16)


def norm(channels: int = 3) -> nn.BatchNorm2d:
    """A norm that is far from the identity."""
    layer = nn.BatchNorm2d(channels)
    for tensor in (layer.weight.data, layer.bias.data, layer.running_mean):
        nn.init.uniform_(tensor, 0.5, 2.0)
    nn.init.uniform_(layer.running_var, 0.2, 3.0)
    return layer


class Chain(nn.Module):
    """Convolutions that norms follow, one of them transposed, with activations between."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), norm(), nn.ReLU()),
            *(nn.ConvTranspose2d(3, 3, 3, padding=1), norm(), nn.SiLU()),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


class Seen(nn.Module):
    """A convolution whose own result is looked at beside its norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 3, 1), norm(), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        created = self.conv(x)
        normed = self.norm(created)
        return created + self.act(normed) + normed


class Twice(nn.Module):
    """One convolution before two norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.one, self.other = nn.Conv2d(3, 3, 1), norm(), norm()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.one(self.conv(x)) + self.other(self.conv(x))
        return out


class Shared(nn.Module):
    """One norm behind two branches, or behind a branch and the image itself."""

    def __init__(self, *, image: bool) -> None:
        super().__init__()
        self.image = image
        self.one, self.other, self.norm = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), norm()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.one(x)) + self.norm(x if self.image else self.other(x))
        return out


class Standardised(nn.Conv2d):
    """Weight standardisation (arXiv:1903.10520): scales its weights anew in every forward, so folding would undo it."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean((1, 2, 3), keepdim=True)) / self.weight.std((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(x, weight, self.bias)


class Grouped(nn.Module):
    """A transposed convolution in groups, which torch's fusion gets wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), norm(6)
        self.before = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(self.before(x)))
        return out


class NotOnMeta(nn.Module):
    """Decides by a value, which the meta device has none of."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), norm()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out if bool(out.mean() > -100) else -out


@pytest.mark.parametrize(
    ("network", "norms"),
    [
        (Chain(), 0),
        (Seen(), 1),
        (Twice(), 2),
        (Shared(image=False), 0),
        (Shared(image=True), 1),
        (nn.Sequential(Standardised(3, 3, 3), norm()), 1),
        (Grouped(), 1),
        (NotOnMeta(), 1),
        (nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3, track_running_stats=False)), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_only_norms_that_nobody_else_depends_on_are_folded(network: nn.Module, norms: int) -> None:
    network = network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    fast = ready(network, SHAPE)
    image = torch.randn(2, *SHAPE[1:], generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        result = fast(image)
        expected = network.eval()(image)
    torch.testing.assert_close(result, expected, rtol=1e-5, atol=1e-5)
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in fast.modules()) == norms
    torch.testing.assert_close(dict(network.state_dict()), before, rtol=0, atol=0)
    assert not any(weight.requires_grad for weight in fast.parameters())


def test_activations_write_in_place_only_over_what_nobody_reads() -> None:
    activations = [
        layer for layer in ready(Chain(), SHAPE, "bfloat16").modules() if isinstance(layer, nn.ReLU | nn.SiLU)
    ]
    assert nn.SiLU in map(type, activations)
    assert all(layer.inplace for layer in activations)  # a ReLU may be its convolution's
    assert [layer.inplace for layer in ready(Seen(), SHAPE).modules() if isinstance(layer, nn.ReLU)] == [False]


class OneReLU(nn.Module):
    """One ReLU behind two convolutions, or behind a convolution and the image itself."""

    def __init__(self, *, image: bool) -> None:
        super().__init__()
        self.image = image
        self.one, self.other, self.act = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 3, padding=1), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(self.one(x)) + self.act(x if self.image else self.other(x))
        return out


class ReadBehind(nn.Module):
    """A ReLU in place, whose input is read behind it for what it has become."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        created = self.conv(x)
        out: Tensor = self.act(created) * created
        return out


class PadsItself(nn.Conv2d):
    """A convolution that pads as those of segmentation_models_pytorch's EfficientNet do."""

    def __init__(self) -> None:
        super().__init__(3, 3, 3, stride=2)
        self.static_padding = nn.ZeroPad2d((0, 1, 0, 1))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(self.static_padding(x), self.weight, self.bias, self.stride)


@pytest.mark.parametrize(
    ("network", "left"),
    [
        (Chain(), 1),
        (ReadBehind(), 1),
        (nn.Sequential(PadsItself(), norm(), nn.SiLU(inplace=True), PadsItself(), nn.ReLU(inplace=True)), 0),
        (Seen(), 1),
        (OneReLU(image=False), 0),
        (OneReLU(image=True), 1),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"), nn.ReLU()), 1),
        (nn.Sequential(nn.Conv2d(3, 3, 3, padding="same", dilation=2), nn.ReLU()), 1),
        (nn.Sequential(nn.Conv2d(3, 3, 1, padding=1), nn.ReLU()), 1),  # oneDNN would end the process
        (nn.Sequential(nn.ConvTranspose2d(3, 3, 3), norm(), nn.ReLU()), 1),
        (nn.Sequential(nn.Conv2d(3, 6, 5, 2, 1, 1, 3), nn.ReLU(), nn.Conv2d(6, 2, 1), nn.ReLU6()), 0),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)
def test_convolutions_compute_the_activation_that_alone_reads_them(network: nn.Module, left: int) -> None:
    fast = ready(network, SHAPE)
    assert (sum(isinstance(layer, nn.ReLU | nn.SiLU) for layer in fast.modules()), fast.as_written) == (left, "")
    image = torch.randn(2, 3, 12, 20, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(fast(image), network.eval()(image), rtol=1e-5, atol=1e-5)
    program = torch.export.export(fast.network, (torch.rand(SHAPE),), strict=False)
    names = {node.target for node in program.graph.nodes}
    assert torch.ops.aten.relu.default in names or left
    assert torch.ops.mkldnn._convolution_pointwise.default not in names, "no runtime knows it"


class Packings(TorchDispatchMode):
    """Counts how often weights are brought into oneDNN's order."""

    count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.count += func is torch.ops.aten.mkldnn_reorder_conv2d_weight.default
        return func(*args, **(kwargs or {}))


@pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")
def test_weights_are_packed_once_for_each_size_of_images() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 2, 1)).eval()
    fast = ready(network, SHAPE)
    counts = []
    for shape in ((1, 3, 24, 32), (1, 3, 24, 32), (4, 3, 24, 32), (1, 3, 40, 32), (1, 3, 24, 32)):
        image = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode(), Packings() as packings:
            torch.testing.assert_close(fast(image), network(image), rtol=1e-5, atol=1e-5)
        counts.append(packings.count)
    assert counts == [2, 0, 0, 2, 2]
    with torch.inference_mode():
        torch.testing.assert_close(copy.deepcopy(fast)(image), fast(image), rtol=0, atol=0)
        doubled = copy.deepcopy(fast).double()(image.double())
        torch.testing.assert_close(doubled, network.double()(image.double()), rtol=1e-12, atol=1e-12)


@given(
    groups=st.sampled_from([1, 1, 2, 7]),
    widths=st.tuples(st.integers(1, 9), st.integers(1, 17)),
    kernel=st.tuples(*[st.sampled_from([1, 3, 5])] * 2),
    stride=st.tuples(*[st.integers(1, 3)] * 2),
    dilation=st.tuples(*[st.sampled_from([1, 2, 8])] * 2),
    size=st.tuples(*[st.integers(5, 20)] * 2),  # in maps narrower than a kernel, oneDNN errs in torch, too
    padded=st.booleans(),
)
def test_packed_convolutions_of_any_form_compute_as_torch_s(
    groups: int,
    widths: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    size: tuple[int, int],
    padded: bool,
) -> None:
    padding = (dilation[0] * (kernel[0] // 2), dilation[1] * (kernel[1] // 2))
    # Unpadded and one column wide, oneDNN's strided convolutions of one channel err, in torch too.
    assume(padded or all(side > 2 * reach + step for side, reach, step in zip(size, padding, stride, strict=True)))
    padding = padding if padded else (0, 0)
    into, out = (groups * width for width in widths)
    network = nn.Sequential(nn.Conv2d(into, out, kernel, stride, padding, dilation, groups), nn.ReLU()).eval()
    fast = ready(network, (1, into, 40, 40))
    image = torch.randn(2, into, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        torch.testing.assert_close(fast(image), network(image), rtol=1e-4, atol=1e-4)


class Depthwise(nn.Module):
    """A depthwise convolution with a norm behind it."""

    def __init__(self, kernel: tuple[int, int], dilation: int, *, groups: int = 8) -> None:
        super().__init__()
        padding = (dilation * (kernel[0] // 2), dilation * (kernel[1] // 2))
        self.conv = nn.Conv2d(8, 8, kernel, padding=padding, dilation=dilation, groups=groups)
        self.norm = norm(8)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x))
        return out


@pytest.mark.parametrize(
    ("network", "beside"),
    [
        (Depthwise((3, 3), 8), 8),
        (Depthwise((1, 3), 16), 16),
        (Depthwise((3, 1), 16), 0),
        (Depthwise((3, 3), 4), 4),
        (Depthwise((3, 3), 8, groups=1), 8),
    ],
)
def test_depthwise_kernels_are_given_padded_rows_where_they_pad_none_themselves(
    network: Depthwise, beside: int
) -> None:
    """oneDNN leaves its depthwise kernels where a convolution pads rows by more than they can."""
    apart = network.conv.groups > 1 and beside > PADDED_BY_KERNELS
    fast = ready(network, (1, 8, 20, 24))
    convolution = next(layer for layer in fast.modules() if isinstance(layer, nn.Conv2d))
    assert convolution.padding == (network.conv.padding[0], 0 if apart else beside)
    assert sum(isinstance(layer, nn.ZeroPad2d) for layer in fast.modules()) == apart
    image = torch.randn(2, 8, 20, 24, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        result = fast(image)
        torch.testing.assert_close(result, network.eval()(image), rtol=1e-5, atol=1e-5)
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_lie_channels_last_also_where_one_channel_would_fit_both(channels: int) -> None:
    image = torch.rand(2, channels, 5, 7)
    result = channels_last(image)
    assert torch.equal(result, image)
    assert result.stride() == (35 * channels, 1, 7 * channels, channels)
    joined = torch.cat([result, torch.rand(2, 4, 5, 7).contiguous(memory_format=torch.channels_last)], dim=1)
    assert joined.is_contiguous(memory_format=torch.channels_last)


def test_bfloat16_is_what_convolutions_compute_in() -> None:
    seen: list[torch.dtype] = []
    network = Chain()
    network.layers[3].register_forward_hook(lambda layer, given, made: seen.extend([given[0].dtype, made.dtype]))
    with torch.inference_mode():
        ready(network, SHAPE, "bfloat16")(torch.rand(SHAPE))
        ready(network, SHAPE)(torch.rand(SHAPE))
    assert seen.count(torch.bfloat16) == 2
