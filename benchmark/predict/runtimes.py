"""Runs networks by onnxruntime, OpenVINO or torch.compile in place of torch."""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn

from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.efficiency.latency import measure_in_turn
from benchmark.evaluation.ensemble import Ensemble, averaged
from benchmark.predict.export import parity
from benchmark.predict.export.capture import capture
from benchmark.predict.export.export_formats import Forward, of_module, read_onnx, read_openvino, write_onnx
from benchmark.predict.fused_network import FusedNetwork
from benchmark.records.efficiency_record import EfficiencySettings, Latency
from benchmark.records.export_record import RANDOM
from benchmark.utils.errors import UserError, missing_packages
from benchmark.utils.words import counted

RuntimeName = Literal["torch", "compile", "onnxruntime", "openvino"]

EXTRA = "runtimes"
EXPORTER = ("onnx", "onnxscript")
#: Timings of a stack of tiles by each runtime, in turn, by which ``auto`` chooses.
CHOOSING = EfficiencySettings(warm_up=1, min_iterations=3, min_seconds=1.0)
#: The runtimes that ``auto`` chooses from. A compiled network would need a compiler on every machine.
AUTOMATIC: tuple[RuntimeName, ...] = ("torch", "onnxruntime", "openvino")


class RefusedRuntimeError(Exception):
    """A runtime is not installed, or it cannot compute a network as torch does."""


@dataclass(frozen=True, eq=False)
class Deployment:
    """A network that is ready for inference, and the images and threads that it is run with.

    Attributes:
        network: on its device.
        channels: of the images.
        side: of the images, pixels.
        threads: compute threads on a CPU.
        batch: images of a full stack.
    """

    network: FusedNetwork
    channels: int
    side: int
    threads: int
    batch: int = 1

    @functools.cached_property
    def onnx(self) -> bytes:
        """The network as an ONNX model for images of this size."""
        return write_onnx(capture(self.network.network, self.channels, self.side, None), {})

    @property
    def counts(self) -> tuple[int, ...]:
        """The numbers of images that a runtime has a program for: a full stack, and one of an incomplete stack."""
        return tuple(dict.fromkeys((self.batch, 1)))

    @property
    def half(self) -> bool:
        """Whether convolutions and matrix products are computed in bfloat16."""
        return bool(self.network.dtype != torch.float32)

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return next((weight.device for weight in self.network.parameters()), torch.device("cpu"))


class RuntimeNetwork(nn.Module):
    """A network that another runtime computes on the CPU; it has no weights of its own.

    A program for a known number of images is faster than one for any number: LETNet by OpenVINO, four images of
    512x512 in two threads, took 1.4 times as long by the latter.

    Attributes:
        runtime: key of :data:`RUNTIMES`.
        programs: by their number of images; other numbers are computed one image at a time.
    """

    def __init__(self, runtime: RuntimeName, programs: Mapping[int, Forward]) -> None:
        super().__init__()
        self.runtime, self.programs = runtime, programs

    def forward(self, images: Tensor) -> Tensor:
        """Map images ``(N, C, H, W)`` float32 to logits ``(N, K, H, W)``."""
        program = self.programs.get(len(images))
        if program is None:
            return torch.cat([self(image) for image in torch.split(images, 1)])
        return torch.from_numpy(program(images.contiguous().numpy()))


@dataclass(frozen=True)
class Runtime:
    """A program that computes networks.

    Attributes:
        display: name for readers.
        packages: that it needs; the last one's version is the runtime's.
        open: returns a module from images to logits; raises errors of every kind.
        on_gpu: whether it is used on a GPU too.
    """

    display: str
    packages: tuple[str, ...]
    open: Callable[[Deployment], nn.Module]
    on_gpu: bool = False

    @property
    def version(self) -> str:
        """Version of the installed package."""
        return importlib.metadata.version(self.packages[-1])


def _compile(deployment: Deployment) -> nn.Module:
    # Networks share the code of FusedNetwork.forward, and torch would run all but the first few of them eagerly.
    torch.compiler.reset()
    return cast(nn.Module, torch.compile(deployment.network, dynamic=False))


def _open_onnxruntime(deployment: Deployment) -> nn.Module:
    if deployment.half:
        raise RefusedRuntimeError("computes no bfloat16 on a CPU")
    onnx, threads = deployment.onnx, deployment.threads
    return RuntimeNetwork("onnxruntime", {count: read_onnx(onnx, threads, count) for count in deployment.counts})


def _open_openvino(deployment: Deployment) -> nn.Module:
    onnx, threads, precision = deployment.onnx, deployment.threads, "bf16" if deployment.half else "f32"
    return RuntimeNetwork(
        "openvino", {count: read_openvino(onnx, threads, count, precision) for count in deployment.counts}
    )


RUNTIMES: Mapping[RuntimeName, Runtime] = {
    "torch": Runtime("torch", ("torch",), lambda deployment: deployment.network, on_gpu=True),
    "compile": Runtime("torch.compile", ("torch",), _compile, on_gpu=True),
    "onnxruntime": Runtime("onnxruntime", (*EXPORTER, "onnxruntime"), _open_onnxruntime),
    "openvino": Runtime("OpenVINO", (*EXPORTER, "openvino"), _open_openvino),
}


def open_runtime(name: RuntimeName, deployment: Deployment) -> nn.Module:
    """Return a network as a runtime computes it, after a comparison with torch on random images.

    In bfloat16, and on a GPU, which rounds to TF32, the logits are not compared.

    Raises:
        RefusedRuntimeError: the runtime is not installed or is not used on the device, cannot compute the network, or
            its logits differ by more than rounding.
    """
    runtime = RUNTIMES[name]
    if reason := missing_packages(*runtime.packages, extra=EXTRA):
        raise RefusedRuntimeError(reason)
    on_gpu = deployment.device.type != "cpu"
    if on_gpu and not runtime.on_gpu:
        raise RefusedRuntimeError("is used on a CPU only; take --device cpu")
    yardstick = parity.Yardstick.of(deployment.network)
    try:
        network = runtime.open(deployment)
        for count in deployment.counts:
            images = parity.random_images(count, deployment.channels, deployment.side, deployment.side)
            if on_gpu or deployment.half:
                with torch.inference_mode():
                    network(torch.from_numpy(images).to(deployment.device))
            elif name != "torch":
                parity.compare(yardstick, of_module(network), images, RANDOM, 0.5)
    except parity.ParityError as error:
        raise RefusedRuntimeError(f"{error}; expected {parity.CONVENTION}") from error
    except RefusedRuntimeError:
        raise
    except Exception as error:  # capturing, converting and opening run into errors of every kind
        raise RefusedRuntimeError(f"{type(error).__name__}: {parity.words(error)}") from error
    return network


def open_all(
    names: Iterable[RuntimeName], deployment: Deployment
) -> tuple[dict[RuntimeName, nn.Module], dict[RuntimeName, str]]:
    """Return a network as each of several runtimes computes it, and the reasons of those that do not."""
    opened: dict[RuntimeName, nn.Module] = {}
    refusals: dict[RuntimeName, str] = {}
    for name in names:
        try:
            opened[name] = open_runtime(name, deployment)
        except RefusedRuntimeError as error:
            refusals[name] = str(error)
    return opened, refusals


def time_each(networks: Mapping[RuntimeName, nn.Module], images: Tensor) -> dict[RuntimeName, float]:
    """Return the median milliseconds of a forward of each network, measured in turn."""

    def step(network: nn.Module) -> Callable[[], object]:
        return lambda: network(images)

    with torch.inference_mode(), keeping_freed_memory():  # as predict's own forwards
        latencies: dict[str, Latency] = measure_in_turn({name: step(of) for name, of in networks.items()}, CHOOSING)
    return {name: latencies[name].p50_ms for name in networks}


def run_by(
    name: RuntimeName | Literal["auto"],
    network: nn.Module,
    channels: int,
    side: int,
    threads: int,
    batch: int,
    times: Callable[[Mapping[RuntimeName, nn.Module], Tensor], Mapping[RuntimeName, float]] = time_each,
) -> tuple[nn.Module, str]:
    """Return a network or an ensemble as a runtime computes it, and the runtime with its reason, in words.

    Args:
        name: of the runtime; ``auto`` for the fastest of those that compute the network as torch does.
        network: a :class:`~benchmark.predict.fused_network.FusedNetwork`, or an ensemble of several.
        channels: of the images.
        side: of the images, pixels.
        threads: compute threads.
        batch: images of a full stack.
        times: measures the milliseconds of a forward of each network.

    Raises:
        UserError: the named runtime is not installed or does not compute the network as torch does.
    """
    members = network.members if isinstance(network, Ensemble) else [network]
    first, *others = [Deployment(cast(FusedNetwork, member), channels, side, threads, batch) for member in members]
    if name == "auto":
        opened, refusals = open_all(AUTOMATIC, first)
        stack = torch.from_numpy(parity.random_images(batch, channels, side, side))
        medians = times(opened, stack) if len(opened) > 1 else dict.fromkeys(opened, 0.0)
        chosen = min(medians, key=lambda runtime: medians[runtime])
        network, reason = opened[chosen], _reason(chosen, medians, refusals, stack, threads)
    else:
        chosen = name
        network, reason = _asked(chosen, first), described(chosen)
    return averaged([network, *(_asked(chosen, deployment) for deployment in others)]), reason


def _asked(name: RuntimeName, deployment: Deployment) -> nn.Module:
    try:
        return open_runtime(name, deployment)
    except RefusedRuntimeError as error:
        raise UserError(f"--runtime {name}: {error}; or use --runtime torch") from error


def described(name: RuntimeName) -> str:
    """Return a runtime with its version: ``OpenVINO 2026.4.0``."""
    return f"{RUNTIMES[name].display} {RUNTIMES[name].version}"


def _reason(
    name: RuntimeName,
    medians: Mapping[RuntimeName, float],
    refusals: Mapping[RuntimeName, str],
    stack: Tensor,
    threads: int,
) -> str:
    left_out = "".join(f"; {RUNTIMES[other].display} left out: {refusal}" for other, refusal in refusals.items())
    if len(medians) == 1:
        return f"{described(name)}, the only one{left_out}"
    slower = ", ".join(f"{described(other)} {ms:.1f} ms" for other, ms in medians.items() if other != name)
    return (
        f"{described(name)}, the fastest here: {medians[name]:.1f} ms for {counted(len(stack), 'tile')} of "
        f"{stack.shape[-1]} px in {counted(threads, 'thread')}, {slower}{left_out}"
    )


def runtime_of(network: nn.Module) -> dict[str, str]:
    """Return name and version of the runtime that computes a network or an ensemble, for a manifest."""
    others = (part.runtime for part in network.modules() if isinstance(part, RuntimeNetwork))
    name: RuntimeName = next(others, "torch")
    return {"runtime": name, "runtime_version": RUNTIMES[name].version}
