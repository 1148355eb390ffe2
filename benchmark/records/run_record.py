"""The record that a run leaves behind, as a validated schema."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AliasChoices, Field

from benchmark.records.efficiency_record import Conditions
from benchmark.records.schema import Filed, Frozen
from benchmark.utils import logs
from benchmark.utils.names import PLAIN

#: Raised when a record gets a field that older releases do not know; records of earlier numbers stay readable.
SCHEMA: Final = 2

#: In a record's environment: all outputs of a user's network lay in [0, 1] after the first round.
BOUNDED: Final = "outputs_in_unit_interval"
#: A sentence about such a record.
BOUNDED_MEANS: Final = "all outputs lie in [0, 1], as after a sigmoid in the network, and were taken for logits"

# Escape sequences would repaint the terminal that a message is printed on.
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


#: A name that a folder is called by.
Name = Annotated[str, Field(pattern=PLAIN)]
Text = Annotated[str, AfterValidator(lambda text: _CONTROL.sub("", text))]
#: What a program said, which may name files: no record, and nothing that is made of one, holds an absolute path.
Quoted = Annotated[Text, AfterValidator(logs.without_folders)]


class Failure(Frozen):
    """Why a run has no numbers."""

    kind: FailureKind
    message: Quoted
    log: Quoted = Field("", description="the last lines before the failure")


class KeyParts(Frozen):
    """What a run's numbers depend on; its key is the hash of these."""

    protocol: str = Field(description="digest of every setting that can change a number")
    data: str = Field(description="fingerprint of the datasets: of the training's, and of the test's where they differ")
    model: str = Field(description="registered name, hand-raised version and, for a user's file, its content hash")
    behaviour: int = Field(description="the harness's own hand-raised number")
    repeat: int
    init: str | None = Field(
        None,
        description="hash of the weights that the run started from; left out of the key where they were drawn",
    )


class Initial(Frozen):
    """The weights of another study that a run started from."""

    study: Text
    train: tuple[Name, ...] = Field(min_length=1, description="what they were trained on")
    repeat: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="of the file")


class TrainingFacts(Frozen):
    """How the training went; holds the clock, so it is kept apart from the metrics."""

    # Earlier releases called rounds epochs, which are passes over the training images in every other place.
    rounds: int = Field(
        validation_alias=AliasChoices("rounds", "epochs"), description="validation rounds that were run"
    )
    steps: int = Field(description="optimiser steps")
    best_round: int = Field(
        validation_alias=AliasChoices("best_round", "best_epoch"),
        description="the validation round whose weights were kept, counted from 1",
    )
    best_validation_loss: float | None
    seconds: float
    images_per_second: float
    train_images: int
    validation_images: int
    test_images: int = Field(description="of all test datasets together")
    split: str = Field(description="hash of which image is in which part, of each training dataset")


class RunCost(Frozen):
    """What the session that finished a run took of its machine; runs beside it are not told apart everywhere."""

    wall_seconds: float = Field(description="from opening the data to the last test image")
    test_seconds: float = Field(description="of which the test took so much")
    earlier_seconds: float = Field(description="training in sessions that were interrupted, in no other figure here")
    device_seconds: float = Field(
        description="CPU: processor time of all threads of the run's process; GPU: the time for which the run held it"
    )
    peak_host_bytes: int = Field(
        description="largest resident set of the run's process, libraries included; "
        "since the process began where the system cannot start its mark anew (it can on Linux)"
    )
    peak_gpu_bytes: int | None = Field(
        description="torch.cuda.max_memory_allocated without what the process held before; none on a CPU"
    )
    reserved_gpu_bytes: int | None = Field(
        None, description="torch.cuda.max_memory_reserved, which others could not use; none on a CPU and in older files"
    )
    energy_joules: float | None = Field(description="of the whole GPU, runs beside it included; needs nvidia-ml-py")
    before: Conditions = Field(description="clock and load at the start")
    after: Conditions = Field(description="clock and load at the end")


class Record(Filed):
    """One run: what it was, how it ended, what it measured.

    ``metrics[test dataset][reduction][metric]`` are fractions in [0, 1] or counts; none depends on the clock.
    ``environment`` says with which code, packages and hardware, without any host, user or path. It names the packages
    that compute; ``package_list`` is the hash of all of them, which lie in the study's folder, since a study's runs
    share one list: ``environment/packages.<hash>.txt``, a file that pip can install from.
    """

    schema_: Literal[1, 2] = Field(SCHEMA, alias="schema")
    key: str
    key_parts: KeyParts
    status: Literal["ok", "failed", "interrupted"]
    model: Name
    train: tuple[Name, ...] = Field(min_length=1)
    test: tuple[Name, ...]
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
        """What the run is called by its place in the study: ``omc-syn/unet/0``."""
        return f"{'+'.join(self.train)}/{self.model}/{self.repeat}"
