"""Exports trained networks as files that run without this project."""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from benchmark import __version__
from benchmark.data.specs import KNOWN, SUFFIX
from benchmark.efficiency.conditions import describe_changes
from benchmark.efficiency.hindrance import hindrances, measure_undisturbed
from benchmark.efficiency.latency import measure_in_turn
from benchmark.predict.export import parity
from benchmark.predict.export.capture import capture
from benchmark.predict.export.export_formats import FORMATS, INPUT, OUTPUT, Array, Format, Forward, of_module
from benchmark.predict.export.parity import Range
from benchmark.records import environment
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.export_record import Check, ExportRecord, Timing
from benchmark.records.weights import TrainedNetwork, read_weights
from benchmark.utils.files import write_atomically

#: Heavy networks take seconds a forward, four of them for a pair of timings.
TIMING = EfficiencySettings(warm_up=3, min_iterations=15, min_seconds=2.0)
LICENCE = "MIT"  # of this project; a test compares it with pyproject.toml


class ExportError(Exception):
    """No file of a network agrees with torch."""


@dataclass(frozen=True)
class Request:
    """The settings of an export.

    Attributes:
        format: ``onnx`` or ``torch``.
        picture: a test image's name and ``(1, C, H, W)``, by :func:`~benchmark.predict.export.trial_image.picture`.
        threads: of the CPU, for torch and for the file.
    """

    study: str
    format: str
    out: Path
    picture: tuple[str, Array] | None
    threads: int
    timing: EfficiencySettings


@dataclass(frozen=True)
class _Agreed:
    """A file's content that agrees with torch; ``refusals`` are the reasons against wider ranges of sizes."""

    content: bytes
    span: Range
    forward: Forward
    facts: Mapping[str, str]
    checks: tuple[Check, ...]
    refusals: tuple[str, ...]


def export(trained: TrainedNetwork, request: Request) -> tuple[Path, ExportRecord]:
    """Write a network as a file and its record as ``<file>.json``; return both.

    Height and width vary if the file agrees with torch at several sizes; otherwise they are those of the training. The
    number of images always varies. Only files that agree with torch are written.

    Raises:
        ExportError: no file of the format agrees with torch; gives the reason.
        UserError: the weights cannot be read, or the folder cannot be written.
    """
    torch.set_num_threads(request.threads)
    kind = FORMATS[request.format]
    network = trained.build()
    agreed = _first_that_agrees(trained, network, request, kind)
    fixed = agreed.span.step is None
    name = f"{trained.label.replace('/', '.')}{kind.suffix}"
    record = ExportRecord(
        schema=1,
        file=name,
        format="onnx" if request.format == "onnx" else "torch",
        opset=kind.opset,
        sha256=hashlib.sha256(agreed.content).hexdigest(),
        size_bytes=len(agreed.content),
        weights_bytes=trained.file.stat().st_size,
        metadata=dict(agreed.facts),
        dynamic=("batch",) if fixed else ("batch", "height", "width"),
        narrowed_because=agreed.refusals[0] if agreed.refusals else None,
        tolerance=parity.CONVENTION,
        checks=agreed.checks,
        timing=_time(trained, network, agreed.forward, request),
        environment=environment.describe("cpu", request.threads)
        | {"exporter": {package: importlib.metadata.version(package) for package in kind.packages}},
        notes=() if request.picture else ("compared on random images alone; name one of yours by --image FILE",),
    )
    write_atomically(request.out / name, agreed.content)
    write_atomically(request.out / f"{name}.json", record.to_json())
    return request.out / name, record


def _first_that_agrees(trained: TrainedNetwork, network: nn.Module, request: Request, kind: Format) -> _Agreed:
    """Return the first file that agrees with torch, from the widest range of sizes to the narrowest.

    The captured program is compared first: if it fails at another size, every format fails.
    """
    side, threshold = trained.input_size, trained.protocol.evaluation.threshold
    yardstick = parity.Yardstick.of(network)
    refusals: list[str] = []
    multiples = (trained.entry.multiple, 2 * trained.entry.multiple)
    for step in (*(multiple for multiple in multiples if side % multiple == 0), None):
        try:
            program = capture(network, trained.channels, side, step)
            captured = of_module(program.module())
            span = Range(None, side) if step is None else parity.range_of(yardstick, captured, trained.channels, step)
            inputs = parity.inputs(trained.channels, side, span, request.picture)
            parity.check(yardstick, captured, inputs, threshold)
            facts = describe(trained, request.study, kind, span)
            content = kind.write(program, facts)
            forward = kind.read(content, request.threads)
            checks = parity.check(yardstick, forward, inputs, threshold)
        except Exception as error:  # capturing, converting and opening run into errors of every kind
            name = "" if isinstance(error, parity.ParityError) else f"{type(error).__name__}: "
            refusals.append(f"{'' if step is None else f'not every multiple of {step}: '}{name}{parity.words(error)}")
        else:
            return _Agreed(content, span, forward, facts, checks, tuple(refusals))
    raise ExportError(refusals[-1])


def describe(trained: TrainedNetwork, study: str, kind: Format, span: Range) -> dict[str, str]:
    """Return the metadata of an exported network in words, equal in every format."""
    side, channels = trained.input_size, trained.channels
    fixed = span.step is None
    size = f"{side}, {side}" if fixed else "height, width"
    pixels = "gray (RGB by the luma of ITU-R BT.601)" if channels == 1 else "RGB"
    return {
        "model": trained.entry.name,
        "model_version": str(trained.entry.version),
        "paper": trained.entry.paper,
        "study": study,
        "training_set": "+".join(trained.train),
        "repeat": str(trained.record.repeat) if trained.record else "",
        "weights_sha256": hashlib.sha256(read_weights(trained.file)).hexdigest(),
        "input": f"{INPUT}: float32 (batch, {channels}, {size}), {pixels}, [0, 1]: 8-bit values / 255",
        "output": f"{OUTPUT}: float32 (batch, {max(1, len(trained.layers))}, {size}), foreground's probability = "
        f"sigmoid({OUTPUT})",
        **({"layers": ", ".join(trained.layers)} if trained.layers else {}),
        "threshold": f"{trained.protocol.evaluation.threshold:g} of the probability, itself included",
        "size": f"{side}x{side} only" if fixed else f"multiples of {span.step}, at least {span.least}",
        "size_multiple": str(trained.entry.multiple if fixed else span.step),
        "trained_at": f"{side}x{side}",
        "licence": f"{LICENCE} for the network's code; the weights are bound by the terms of their training images",
        "training_images": "; ".join(f"{name}: {_about(name)}" for name in trained.train) or "not known",
        "software": f"eal-icnet-benchmark {__version__}, torch {torch.__version__.partition('+')[0]}"
        + (f", opset {kind.opset}" if kind.opset is not None else ""),
    }


def _about(dataset: str) -> str:
    if dataset.endswith(SUFFIX):
        return "synthetic stand-in" if dataset.removesuffix(SUFFIX) in KNOWN else "drawn from a layout"
    return KNOWN[dataset].about if dataset in KNOWN else "the user's own"


def _time(trained: TrainedNetwork, network: nn.Module, forward: Forward, request: Request) -> Timing:
    side = trained.input_size
    image = torch.rand(1, trained.channels, side, side, generator=torch.Generator().manual_seed(0)).numpy()
    eager = of_module(network)
    latencies, _ = measure_undisturbed(
        lambda: measure_in_turn({"exported": lambda: forward(image), "torch": lambda: eager(image)}, request.timing),
        lambda pair: hindrances(pair["torch"].waited),
        lambda pair: pair["torch"].p50_ms,
    )
    moved = {
        name: describe_changes(latency.before, latency.after, latency.raw_ms, request.threads)
        for name, latency in latencies.items()
    }
    machine = [text for text in moved["exported"] if text in moved["torch"]]
    own = [f"{name}: {text}" for name, texts in moved.items() for text in texts if text not in machine]
    return Timing(
        height=side,
        width=side,
        threads=request.threads,
        exported=latencies["exported"],
        torch=latencies["torch"],
        ratio=latencies["exported"].p50_ms / latencies["torch"].p50_ms,
        warnings=(*machine, *own),
        hindered=hindrances(latencies["torch"].waited),
    )
