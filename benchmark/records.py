"""The record that a run leaves behind, as a validated schema."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

FailureKind = Literal[
    "nan_loss",
    "out_of_memory",
    "cuda_error",
    "disk_full",
    "bad_input",
    "not_deterministic",
    "unsupported",
    "error",
    "timeout",
    "worker_died",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Failure(_Frozen):
    """Why a run has no numbers."""

    kind: FailureKind
    message: str
    log: str = Field("", description="the last lines before the failure")


class KeyParts(_Frozen):
    """What a run's numbers depend on; its key is the hash of these."""

    protocol: str = Field(description="digest of every setting that can change a number")
    data: str = Field(description="fingerprint of the datasets: of the training's, and of the test's where they differ")
    model: str = Field(description="registered name, hand-raised version and, for a user's file, its content hash")
    behaviour: int = Field(description="the harness's own hand-raised number")
    repeat: int


class TrainingFacts(_Frozen):
    """How the training went; holds the clock, so it is kept apart from the metrics."""

    epochs: int = Field(description="validation rounds that were run")
    steps: int = Field(description="optimiser steps")
    best_epoch: int = Field(description="the round whose weights were kept, counted from 1")
    best_validation_loss: float | None
    seconds: float
    images_per_second: float
    train_images: int
    validation_images: int
    test_images: int = Field(description="of all test datasets together")
    split: str = Field(description="hash of which image is in which part, of each training dataset")


class Record(_Frozen):
    """One run: what it was, how it ended, what it measured.

    ``metrics[test dataset][reduction][metric]`` are fractions in [0, 1] or counts; none depends on the clock.
    """

    schema_: Literal[1] = Field(1, alias="schema")
    key: str
    key_parts: KeyParts
    status: Literal["ok", "failed", "interrupted"]
    model: str
    train: tuple[str, ...]
    test: tuple[str, ...]
    repeat: int
    seed: int
    metrics: dict[str, dict[Literal["image", "pooled"], dict[str, float]]] = {}
    training: TrainingFacts | None = None
    efficiency: tuple[str, ...] = Field((), description="names of the study's efficiency files of this model")
    environment: dict[str, Any] = {}
    failure: Failure | None = None

    def to_json(self) -> bytes:
        """Return the record as readable JSON."""
        return (self.model_dump_json(by_alias=True, indent=1) + "\n").encode()
