"""Describes an exported file in a validated schema; reading it needs no torch."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from benchmark.records.efficiency_record import Latency
from benchmark.records.schema import Filed, Frozen

SCHEMA: Final = 1
RANDOM: Final = "random"


class Check(Frozen):
    """One input, computed with the exported file and with torch."""

    input: str = Field(description="`random` (uniform in [0, 1]), or which image")
    batch: int
    height: int
    width: int
    max_difference: float = Field(description="largest |difference| of two logits")
    max_logit: float = Field(description="largest |logit| of torch's")
    rounding: float | None = Field(description="largest |difference| of torch's float32 and float64, if needed")
    pixels: int = Field(description="of all masks together")
    differing_pixels: int = Field(description="in one mask alone, at the study's threshold")


class Timing(Frozen):
    """Time of a forward of one image on the CPU, the file and torch in turn."""

    height: int
    width: int
    threads: int = Field(description="of each of the two")
    exported: Latency
    torch: Latency = Field(description="the network as the benchmark runs it, eagerly")
    ratio: float = Field(description="median of the file over median of torch")
    warnings: tuple[str, ...] = Field(description="conditions that changed meanwhile")
    hindered: tuple[str, ...] = Field((), description="signs of other load in all tries")


class ExportRecord(Filed):
    """One exported file."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    file: str
    format: Literal["onnx", "torch"]
    opset: int | None
    sha256: str
    size_bytes: int
    weights_bytes: int = Field(description="size of torch's weights, which hold no program")
    metadata: dict[str, str] = Field(description="as in the file")
    dynamic: tuple[Literal["batch", "height", "width"], ...]
    narrowed_because: str | None = Field(description="why it does not accept all sizes of the network")
    tolerance: str = Field(description="allowed difference of a check")
    checks: tuple[Check, ...]
    timing: Timing
    environment: dict[str, Any]
    notes: tuple[str, ...] = ()
