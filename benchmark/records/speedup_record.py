"""Stores one speed comparison of plain PyTorch with the harness; reading needs no torch."""

from __future__ import annotations

from typing import Any, Final, Literal

from pydantic import Field

from benchmark.records.efficiency_record import DType
from benchmark.records.schema import Filed, Frozen

SCHEMA: Final = 1

ComparedWork = Literal[
    "forward",
    "replayed",
    "runtimes",
    "int8",
    "forward_memory",
    "train_step",
    "train_step_memory",
    "training",
    "together",
    "together_replayed",
    "feeding",
    "loop",
    "start_up",
]


class RuntimeTimes(Frozen):
    """Forwards of the same image by another runtime, in turn with both ways; or the reason why there are none."""

    runtime: Literal["compile", "onnxruntime", "openvino"]
    version: str | None = Field(description="of its package; none where it is not installed")
    raw_ms: tuple[float, ...] = Field((), description="every timed forward, in order")
    max_difference: float | None = Field(None, description="largest difference of a logit from the plain way's")
    refusal: str | None = Field(None, description="why it has no timings")


class SpeedupComparison(Filed):
    """The same work, done in two ways in turn in one process; readers compute the ratios."""

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    what: ComparedWork
    model: str | None = Field(description="the network, if any")
    size: int | None = Field(description="side of the input, pixels")
    device: Literal["cpu", "cuda"]
    device_name: str
    dtype: DType | Literal["int8"] = Field(
        description="number format of the harness's way; the plain way is always float32"
    )
    threads: int
    torch: str = Field(description="version")
    unit: Literal["ms", "bytes", "images/s", "s", "share"]
    plain: tuple[float, ...] = Field(description="every value of the plain way, in order; may be empty")
    ours: tuple[float, ...] = Field(min_length=1, description="every value of the harness's way, in order")
    plain_form: str = Field(description="description of the plain way")
    our_form: str = Field(description="description of the harness's way")
    max_difference: float | None = Field(None, description="largest difference of two logits on a random image")
    max_logit: float | None = Field(None, description="largest absolute logit of the plain way on that image")
    pixels: int | None = Field(None, description="of the test images that masks were compared on")
    differing_pixels: int | None = Field(None, description="of these, with another mask")
    others: tuple[RuntimeTimes, ...] = Field((), description="other runtimes, in the number format of ours")
    study: str | None = Field(None, description="name of the study of the weights, if any")
    run: str | None = Field(None, description="label of the run of the weights, if any")
    scores: dict[str, dict[Literal["plain", "ours"], dict[Literal["image", "pooled"], dict[str, float]]]] = Field(
        default_factory=dict, description="metrics of both ways by test, as in a run's record"
    )
    warnings: tuple[str, ...] = ()
    hindered: tuple[str, ...] = Field((), description="signs of other load in all tries")
    environment: dict[str, Any] = Field(default_factory=dict, description="as in a run's record; empty in older files")

    @property
    def file_name(self) -> str:
        """Name of the comparison's file in ``results/<study>/bench/``."""
        run = (self.study, self.run and self.run.replace("/", "."))
        parts = (
            self.what,
            *(run if self.run else (self.model,)),
            self.size and f"{self.size}x{self.size}",
            self.device,
            self.dtype,
        )
        return ".".join(str(part) for part in parts if part) + ".json"
