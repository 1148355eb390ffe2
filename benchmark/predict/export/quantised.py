"""Quantises an ONNX model to int8 with ranges from calibration images."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path

from benchmark.predict.export.export_formats import INPUT, Array
from benchmark.utils import telemetry


def quantised(content: bytes, images: Iterable[Array]) -> bytes:
    """Return an ONNX model that computes in int8: weights by output channel, maps by the range of calibration images.

    Args:
        content: of the float32 model.
        images: each ``(N, C, H, W)`` in [0, 1], of the size that the model takes.

    Raises:
        Exception: of onnxruntime's many kinds, if the model cannot be quantised.
    """
    telemetry.switch_off()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no annotations
        """Gives the images one after another."""

        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, Array] | None:
            """Return the next input, or nothing after the last."""
            image = next(self.images, None)
            return None if image is None else {INPUT: image}

    with tempfile.TemporaryDirectory() as folder:
        exact, folded, whole = (Path(folder) / f"{name}.onnx" for name in ("exact", "folded", "int8"))
        exact.write_bytes(content)
        quant_pre_process(exact, folded, skip_symbolic_shape=True)
        root = logging.getLogger()
        root.addFilter(_matters)
        try:
            quantize_static(
                folded,
                whole,
                Reader(),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                # Without it, sums of two products exceed 16 bits and are cut off where the processor lacks VNNI.
                reduce_range=True,
            )
        finally:
            root.removeFilter(_matters)
        return whole.read_bytes()


def _matters(record: logging.LogRecord) -> bool:
    """Leave out a remark on each norm that follows no convolution: its factors have no output channels."""
    return "is out-of-range for weight" not in record.getMessage()
