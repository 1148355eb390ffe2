"""Defines the record of a run as a validated schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field

from benchmark.config.targets import AT
from benchmark.records.efficiency_record import Conditions
from benchmark.records.schema import Filed, Frozen
from benchmark.utils import logs
from benchmark.utils.names import PLAIN

#: Raised with each new field of a record; records with earlier numbers stay readable.
SCHEMA: Final = 2
#: Of a record whose tests are layers; all others keep the number that earlier releases read.
LAYERS_SCHEMA: Final = 3

#: Key in a record's environment: all outputs of a user's network lay in [0, 1] after the first round.
BOUNDED: Final = "outputs_in_unit_interval"
BOUNDED_MEANS: Final = "all outputs lie in [0, 1], as after a sigmoid in the network, and were taken for logits"

# Escape sequences in a message would repaint the terminal.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")

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

#: A name of a folder.
Name = Annotated[str, Field(pattern=PLAIN)]
#: A dataset or, where it has several layers, a layer of it: ``omc-syn`` or ``omc-syn@via``.
TestName = Annotated[str, Field(pattern=f"{PLAIN.rstrip('$')}(?:{AT}[a-z0-9][a-z0-9_-]*)?$")]
Text = Annotated[str, AfterValidator(lambda text: _CONTROL.sub("", text))]
#: Output of a program, which may name files: no record and no report holds an absolute path.
Quoted = Annotated[Text, AfterValidator(logs.without_folders)]


class Failure(Frozen):
    """The reason why a run has no numbers."""

    kind: FailureKind
    message: Quoted
    log: Quoted = Field("", description="the last lines before the failure")


class KeyParts(Frozen):
    """The parts that a run's numbers depend on; its key is their hash."""

    protocol: str = Field(description="digest of every setting that can change a number")
    data: str = Field(description="fingerprint of the datasets: of the training's, and of the test's if they differ")
    model: str = Field(description="registered name, hand-raised version and, for a user's file, its content hash")
    behaviour: int = Field(description="the harness's own hand-raised number")
    repeat: int
    init: str | None = Field(None, description="hash of the first weights; none for random ones, and not in the key")


class Initial(Frozen):
    """The weights of another study, or of a file from elsewhere, that a run started from."""

    study: Text = Field(description="its name, or the file's")
    train: tuple[Name, ...] = Field((), description="names of their training datasets; none for a file")
    repeat: int | None = Field(None, ge=0, description="none for a file")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file")

    @property
    def source(self) -> str:
        """Study and training set, or file, as tables name them."""
        return f"study {self.study}, trained on {'+'.join(self.train)}" if self.train else f"file {self.study}"

    @property
    def flag(self) -> str:
        """The value of ``--init-from``: ``lab:omc+miic``."""
        return ":".join((self.study, *(["+".join(self.train)] if self.train else [])))


class TrainingFacts(Frozen):
    """Course of the training; it depends on the clock, so it is kept apart from the metrics."""

    # Earlier releases called rounds epochs; everywhere else an epoch is a pass over the training images.
    rounds: int = Field(validation_alias=AliasChoices("rounds", "epochs"), description="number of validation rounds")
    steps: int = Field(description="optimiser steps")
    #: Counted from 1: the round whose weights were kept.
    best_round: int = Field(validation_alias=AliasChoices("best_round", "best_epoch"))
    best_validation_loss: float | None
    seconds: float
    images_per_second: float
    train_images: int
    validation_images: int
    test_images: int = Field(description="of all test datasets together")
    split: str = Field(description="hash of which image is in which part, of each training dataset")


class RunCost(Frozen):
    """Cost of the session that finished a run; some figures include runs beside it."""

    wall_seconds: float = Field(description="from opening the data to the last test image")
    test_seconds: float = Field(description="part of the time that the test took")
    earlier_seconds: float = Field(description="training in interrupted sessions, which no other figure here includes")
    device_seconds: float = Field(description="CPU: processor time of all threads of the process; GPU: wall time")
    #: Largest resident set of the process, libraries included; outside of Linux since the process began.
    peak_host_bytes: int
    peak_gpu_bytes: int | None = Field(
        description="torch.cuda.max_memory_allocated minus its start value; none on a CPU"
    )
    reserved_gpu_bytes: int | None = Field(
        None, description="torch.cuda.max_memory_reserved; none on a CPU, in old files"
    )
    energy_joules: float | None = Field(description="of the whole GPU, runs beside it included; needs nvidia-ml-py")
    before: Conditions = Field(description="clock and load at the start")
    after: Conditions = Field(description="clock and load at the end")


class Record(Filed):
    """One run: its identity, status and measurements.

    ``metrics[test dataset][reduction][metric]`` are fractions in [0, 1] or counts; none depends on the clock.
    ``environment`` holds code, packages that compute, and hardware, without host, user or path. Its ``package_list`` is
    the hash of all packages; a study's runs share the list ``environment/packages.<hash>.txt``, a file for pip.
    """

    schema_: Literal[1, 2, 3] = Field(SCHEMA, alias="schema")
    key: str
    key_parts: KeyParts
    status: Literal["ok", "failed", "interrupted"]
    model: Name
    train: tuple[Name, ...] = Field(min_length=1)
    test: tuple[TestName, ...]
    repeat: int = Field(ge=0)
    seed: int
    metrics: dict[str, dict[Literal["image", "pooled"], dict[str, float]]] = Field(default_factory=dict)
    training: TrainingFacts | None = None
    cost: RunCost | None = None
    init: Initial | None = None
    efficiency: tuple[Name, ...] = Field((), description="names of the study's efficiency files of this model")
    environment: dict[str, Any] = Field(default_factory=dict)
    failure: Failure | None = None

    @property
    def label(self) -> str:
        """Name of the run in its study: ``omc-syn/unet/0``."""
        return f"{'+'.join(self.train)}/{self.model}/{self.repeat}"
