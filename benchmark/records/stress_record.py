"""Describes one stress test, in a small file beside its counts per image."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field, model_validator

from benchmark.records.run_record import Name, TestName
from benchmark.records.schema import Filed

SCHEMA: Final = 1
DRAWN = "drawn"


class StressRecord(Filed):
    """Weights and images of a stress test; two tests with equal records give the same counts."""

    kind: ClassVar[str] = "stress"

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    key: str = Field(description="of the run that trained the weights")
    behaviour: int = Field(description="the harness's own hand-raised number")
    weights: str = Field(description="hash of the file of weights")
    model: Name
    train: tuple[Name, ...] = Field(min_length=1)
    repeat: int = Field(ge=0)
    test: TestName = Field(description="the stand-in, or a layer of it")
    images: str = Field(description="the stand-in's fingerprint, without a forced effect")
    standin_version: int
    convention: int = Field(description="raised when the meaning of a strength changes")
    effect: Name | None = Field(description="the forced effect; none if all effects are as drawn")
    strength: float | None = Field(gt=0, description="multiple of the hardest drawn value")

    @model_validator(mode="after")
    def _whole(self) -> StressRecord:
        if (self.effect is None) != (self.strength is None):
            raise ValueError("an effect has a strength, and a strength an effect")
        return self

    @property
    def runs(self) -> tuple[tuple[int, str], ...]:
        """Repeat and key of the run that trained the weights."""
        return ((self.repeat, self.key),)

    @property
    def part(self) -> str:
        """Name of the folder that tells the network from other repeats."""
        return str(self.repeat)

    @property
    def stem(self) -> str:
        """Stem of the test's two files: ``omc-syn.clouds-0.5``, ``omc-syn.drawn``."""
        return f"{self.test}.{DRAWN if self.effect is None else f'{self.effect}-{self.strength:g}'}"
