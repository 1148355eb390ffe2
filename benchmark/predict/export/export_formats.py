"""Writes and runs the two formats of exported networks."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from benchmark.utils import telemetry

#: The oldest set of operators that torch's exporter writes without converting, so the one that most runtimes know.
OPSET = 18
INPUT, OUTPUT = "image", "logits"
AXES = ("batch", "channels", "height", "width")
#: Torch's notes on the origin of an operation: lines of this machine's files, which files shall not reveal.
ORIGINS = ("stack_trace", "nn_module_stack", "source_fn_stack", "torch_fn", "from_node", "custom")

Array = NDArray[np.float32]
#: From images ``(N, C, H, W)`` in [0, 1] to logits ``(N, K, H, W)``.
Forward = Callable[[Array], Array]


@dataclass(frozen=True)
class Format:
    """A format of files.

    Attributes:
        write: returns a file's content from a program and its facts.
        read: returns a function of images from a file's content and the number of threads.
        packages: needed beside torch.
        opset: version of the operators; ``None`` without versions.
    """

    suffix: str
    write: Callable[[ExportedProgram, Mapping[str, str]], bytes]
    read: Callable[[bytes, int], Forward]
    packages: tuple[str, ...] = ()
    opset: int | None = None


def write_onnx(program: ExportedProgram, facts: Mapping[str, str]) -> bytes:
    """Return an ONNX model with the facts as its metadata; equal programs give equal bytes.

    Raises:
        Exception: an operation that ONNX lacks, or a model that onnx's checker refuses.
    """
    import onnx

    try:
        model = _converted(program, optimize=True)
    except Exception:  # onnxscript's folding of constants gives up on a split into pieces of a size that varies
        model = _converted(program, optimize=False)
    for nodes in (model.graph.node, *(function.node for function in model.functions)):
        _forget_origins(nodes)
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]  # sizes of what lies between, by names of the exporter's; runtimes infer them
    onnx.helper.set_model_props(model, dict(facts))
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, AXES, strict=True):
            if axis.HasField("dim_param"):
                axis.dim_param = name
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _converted(program: ExportedProgram, *, optimize: bool) -> Any:
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    exported = torch.onnx.export(program, dynamo=True, opset_version=OPSET, optimize=optimize, verbose=False, **names)
    assert exported is not None  # only the older exporter, which writes a file itself, returns nothing
    return exported.model_proto


def _forget_origins(nodes: Iterable[Any]) -> None:
    """Remove the source lines of operations."""
    for node in nodes:
        del node.metadata_props[:]
        node.ClearField("doc_string")
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                _forget_origins(graph.node)


def read_onnx(content: bytes, threads: int, batch: int | None = None) -> Forward:
    """Open an ONNX model in onnxruntime on the CPU; ``batch`` fixes the number of images, ``None`` leaves it free."""
    telemetry.switch_off()
    import onnxruntime

    if sys.platform == "win32":  # there the variable is not read, and nothing is written at the import
        onnxruntime.disable_telemetry_events()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    if batch is not None:
        options.add_free_dimension_override_by_name(AXES[0], batch)
    # After a run its threads would wait busily for the next one, and torch, timed in turn, then takes twice as long.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def forward(image: Array) -> Array:
        logits: Array = session.run([OUTPUT], {INPUT: image})[0]
        return logits

    return forward


def read_openvino(content: bytes, threads: int, batch: int, precision: str) -> Forward:
    """Open an ONNX model in OpenVINO on the CPU for stacks of ``batch`` images.

    ``precision`` is OpenVINO's name of a number format, ``f32`` or ``bf16``.
    """
    telemetry.switch_off()
    import openvino

    core = openvino.Core()
    model = core.read_model(content)
    shape = model.input(0).partial_shape
    shape[0] = batch
    model.reshape(shape)
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_HYPER_THREADING": True,  # or else it leaves half of a processor's threads alone, whatever was asked
        "ENABLE_CPU_PINNING": False,  # two processes would share the same cores
        "INFERENCE_PRECISION_HINT": precision,  # or else it takes bfloat16 where the processor has it
    }
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def forward(image: Array) -> Array:
        logits: Array = request.infer({0: image}, share_inputs=True)[0]
        return logits

    return forward


def write_torch(program: ExportedProgram, facts: Mapping[str, str]) -> bytes:
    """Return a program saved by ``torch.export.save``, the facts as ``metadata.json`` in it."""
    for node in program.graph.nodes:
        for origin in ORIGINS:
            node.meta.pop(origin, None)
    file = io.BytesIO()
    torch.export.save(program, file, extra_files={"metadata.json": json.dumps(facts, indent=1)})
    return file.getvalue()


def read_torch(content: bytes, threads: int) -> Forward:
    """Open what this process wrote by :func:`write_torch`; a foreign file could run code while it is opened."""
    module = torch.export.load(io.BytesIO(content)).module()
    torch.set_num_threads(threads)
    return of_module(module)


def of_module(module: Callable[[torch.Tensor], torch.Tensor]) -> Forward:
    """Return a torch module as a function of arrays, without gradients."""

    def forward(image: Array) -> Array:
        with torch.inference_mode():
            logits: Array = module(torch.from_numpy(image)).numpy()
        return logits

    return forward


FORMATS: Mapping[str, Format] = {
    "onnx": Format(".onnx", write_onnx, read_onnx, ("onnx", "onnxscript", "onnxruntime"), OPSET),
    "torch": Format(".pt2", write_torch, read_torch),
}
