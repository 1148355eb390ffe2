"""Forwards of all networks as torch does them on a GPU, in shapes alone: devices, waits, formats, layouts, kernels.

Torch's fake tensors say that they lie on a GPU and hold no values. So these are the only tests without a GPU that take
the branches for one; a backward pass would need its driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode, unset_fake_temporarily
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import Batch
from benchmark.training import loop
from benchmark.training.depthwise_layout import depthwise, lay_out
from tests.network_tester import networks

GPU = torch.device("cuda:0")
SIDE = 64
FORMATS = [("paper", torch.float32), ("strict", torch.bfloat16)]


class Seen(TorchDispatchMode):
    """Devices of all tensors that a forward made, number formats of convolutions, and maps not channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.devices: set[str] = set()
        self.formats: set[torch.dtype] = set()
        self.other_layout = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        created = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        self.devices |= {str(tensor.device) for tensor in created if tensor.dim()}
        if func.overloadpacket is torch.ops.aten.convolution:
            self.formats.add(created[0].dtype)
            self.other_layout += not created[0].is_contiguous(memory_format=torch.channels_last)
        return result


@pytest.fixture(autouse=True)
def _cuda(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What torch and the harness ask of a GPU before they compute: one with bfloat16."""
    monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_: True)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=9))
    if torch.version.cuda is None:
        pytest.skip("torch is built without CUDA")
    with FakeTensorMode(allow_non_fake_inputs=False):
        yield


def on_the_gpu(name: str) -> nn.Module:
    """Lay a registered network on the GPU, channels last."""
    with unset_fake_temporarily(), torch.device("meta"):
        network = registry.models()[name].build()
    for layer in network.modules():
        for key, value in (*layer._parameters.items(), *layer._buffers.items()):
            if value is None:
                continue
            there = torch.empty(value.shape, dtype=value.dtype, device=GPU)
            if there.dim() == 4:
                there = there.to(memory_format=torch.channels_last)
            held = layer._parameters if key in layer._parameters else layer._buffers
            held[key] = nn.Parameter(there) if isinstance(value, nn.Parameter) else there
    return network


def judged(network: nn.Module, protocol: Protocol) -> tuple[Tensor, Seen]:
    """Return the loss of a batch, as validation has it, and what happened."""
    image = torch.empty(2, SIDE, SIDE, 1, device=GPU).permute(0, 3, 1, 2)  # as images are gathered
    batch = Batch(image, torch.empty_like(image), torch.empty_like(image))
    with Seen() as seen:
        loss = loop.validation_step(network, batch, ("track",), protocol)
    return loss, seen


# The test of its attention takes the method under test in both formats every day.
@pytest.mark.parametrize("name", networks(everyday=("eal_icnet", "esnet")))
@pytest.mark.parametrize(("preset", "dtype"), [FORMATS[0], pytest.param(*FORMATS[1], marks=pytest.mark.slow)])
def test_network_stays_on_the_gpu_in_its_format_and_layout_and_waits_for_nothing(
    name: str, preset: str, dtype: torch.dtype
) -> None:
    network, protocol = on_the_gpu(name), load_protocol(preset)
    for mode in (True, False):
        with torch.set_grad_enabled(mode):
            loss, seen = judged(network.train(mode), protocol)
        assert (loss.device, loss.shape) == (GPU, ())
        assert seen.devices == {str(GPU)}
        assert seen.formats == {dtype}
        # Without a driver torch takes bfloat16 for a format that cuDNN lacks. LETNet's transformers change the layout.
        assert seen.other_layout == 0 or dtype == torch.bfloat16 or name == "letnet"


@pytest.mark.parametrize("name", networks("eal_icnet,contextnet,letnet"))
def test_contiguous_depthwise_convolutions_leave_the_others_channels_last(name: str) -> None:
    network = on_the_gpu(name).train()
    lay_out(network, "contiguous")
    layers = {layer: layer in depthwise(network) for layer in network.modules() if isinstance(layer, nn.Conv2d)}
    contiguous: dict[nn.Module, bool] = {}
    for layer in layers:
        layer.register_forward_hook(
            lambda layer, _, maps: contiguous.update({layer: not maps.is_contiguous(memory_format=torch.channels_last)})
        )
    judged(network, load_protocol("paper"))
    if name == "letnet":
        layers = {layer: alone for layer, alone in layers.items() if alone}  # its transformers change the layout
    assert {layer: contiguous[layer] for layer in layers} == layers


class Attention(TorchFunctionMode):
    """Notes what torch's fused attention is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Sequence[Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is nn.functional.scaled_dot_product_attention:
            self.given.append(args)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("preset", "dtype"), FORMATS)
def test_attention_on_a_gpu_is_torch_s_and_given_what_its_fused_kernels_take(preset: str, dtype: torch.dtype) -> None:
    with Attention() as attention:
        _, seen = judged(on_the_gpu("eal_icnet").train(), load_protocol(preset))
    assert (seen.devices, seen.formats) == ({str(GPU)}, {dtype})
    assert attention.given
    for tokens in attention.given:
        assert len({tensor.shape[-1] for tensor in tokens}) == 1
        assert all(tensor.is_contiguous() and tensor.dtype == dtype for tensor in tokens)


def waits(images: Tensor) -> Tensor:
    return images * float(images.mean())


def strays(images: Tensor) -> Tensor:
    return images[:, :, torch.arange(SIDE)] + torch.ones(SIDE)


@pytest.mark.parametrize("wrong", [waits, strays])
def test_wait_and_a_tensor_on_the_cpu_are_noticed(wrong: Callable[[Tensor], Tensor]) -> None:
    class Wrong(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return wrong(images)

    with pytest.raises(Exception, match=r"data.dependent|DataDependent|aten\._local_scalar_dense|device"):
        judged(Wrong(), load_protocol("paper"))
