"""Describes an ensemble's test, in a small file beside its counts per image."""

from __future__ import annotations

from typing import ClassVar, Final, Literal

from pydantic import Field

from benchmark.records.run_record import Name, TestName
from benchmark.records.schema import Filed, Frozen

SCHEMA: Final = 1


class EnsembleMember(Frozen):
    """One of the averaged networks."""

    repeat: int = Field(ge=0)
    key: str = Field(description="of the run that trained the weights")
    weights: str = Field(description="hash of the file of weights")


class EnsembleRecord(Filed):
    """Networks whose probabilities were averaged in a test; two tests with equal records give the same counts."""

    kind: ClassVar[str] = "ensembles"

    schema_: Literal[1] = Field(SCHEMA, alias="schema")
    behaviour: int = Field(description="the harness's own hand-raised number")
    model: Name
    train: tuple[Name, ...] = Field(min_length=1)
    members: tuple[EnsembleMember, ...] = Field(min_length=1, description="in the order of repeats")
    test: TestName = Field(description="the dataset, or a layer of it")

    @property
    def runs(self) -> tuple[tuple[int, str], ...]:
        """Repeat and key of each run that trained a member."""
        return tuple((member.repeat, member.key) for member in self.members)

    @property
    def part(self) -> str:
        """Name of the folder that tells it from other ensembles of the network: ``0+1+2``."""
        return "+".join(str(member.repeat) for member in self.members)

    @property
    def stem(self) -> str:
        """Stem of the test's two files."""
        return self.test
