"""Fine-tuning: which weights of another study a run starts from, and putting them into its network."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.folders import HashCache
from benchmark.data.splits import PARTS
from benchmark.data.tasks import Task
from benchmark.errors import UserError
from benchmark.files import TooLargeError, read_limited
from benchmark.records import Initial
from benchmark.store import RECORD_BYTES, WEIGHTS, BrokenRecordError, Store

if TYPE_CHECKING:
    from torch import Tensor, nn

MOST_NAMED = 5  # tensors, in a message


@dataclass(frozen=True)
class Weights:
    """Weights that a run starts from: the file, and what its record says of it."""

    file: Path
    facts: Initial


@dataclass(frozen=True)
class Start:
    """What ``--init-from`` names.

    Attributes:
        store: the other study.
        train: which of its training sets; ``None`` for the only one that a model has there.
    """

    store: Store
    train: str | None

    @classmethod
    def of(cls, folder: Path, train: str, study: Path) -> Start:
        """Look for the other study.

        Args:
            folder: where it lies.
            train: its training set, such as ``omc+miic``; empty for the only one.
            study: the folder of the study that is to start from it.

        Raises:
            UserError: no such study, or the same one.
        """
        start = cls(Store(folder), train or None)
        if folder == study:
            raise UserError(f"{start.flag}: a study cannot start from itself; give the new one a --study NAME")
        if not (folder / "runs").is_dir():
            raise UserError(f"{start.flag}: no runs in {folder}; expected the name of a study in {folder.parent}")
        return start

    @property
    def flag(self) -> str:
        """The flag as it was given."""
        return f"--init-from {self.store.folder.name}{f':{self.train}' * bool(self.train)}"

    def weights(self, model: str, repeat: int, hashes: HashCache) -> Weights:
        """Return the weights that a repeat of a model starts from: the same repeat's, or those of the best one.

        Args:
            model: the network, which must be of the same name there.
            repeat: of the run that is to start.
            hashes: remembers the content of files.

        Raises:
            UserError: no weights there, or training sets to choose from.
        """
        train = self._training_set(model)
        folder = self.store.folder / "runs" / train / model
        kept = {int(file.parent.name): file for file in folder.glob(f"*/{WEIGHTS}") if file.parent.name.isdecimal()}
        if not kept:
            raise UserError(
                f"{self.flag}: no weights in {folder}; train that study with --keep-weights all, or leave {model} out "
                "of --models"
            )
        chosen = repeat if repeat in kept else min(kept, key=lambda other: (self._loss(train, model, other), other))
        facts = Initial(
            study=self.store.folder.name,
            train=tuple(train.split("+")),
            repeat=chosen,
            sha256=hashes.digest(kept[chosen]),
        )
        hashes.save()
        return Weights(kept[chosen], facts)

    def _training_set(self, model: str) -> str:
        found = sorted(path.parent.name for path in (self.store.folder / "runs").glob(f"[!.]*/{model}"))
        where = f"{self.flag}: {self.store.folder} has {model} trained on {', '.join(found)}"
        if not found:
            raise UserError(f"{self.flag}: {self.store.folder} has no runs of {model}; leave it out of --models")
        if self.train is not None and self.train not in found:
            raise UserError(f"{where}, not on {self.train}")
        if self.train is None and len(found) > 1:
            raise UserError(f"{where}; name one, as in --init-from {self.store.folder.name}:{found[0]}")
        return self.train or found[0]

    def _loss(self, train: str, model: str, repeat: int) -> float:
        try:
            record = self.store.read_record(train.split("+"), model, repeat)
        except BrokenRecordError:
            record = None
        loss = record.training.best_validation_loss if record and record.training else None
        return math.inf if loss is None else loss


def load(network: nn.Module, weights: Weights) -> None:
    """Put weights into a network; nothing but tensors is read from the file.

    Raises:
        UserError: the file is gone, changed since the plan was made, no safetensors file, or of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load as read

    try:
        content = weights.file.read_bytes()
    except OSError as error:
        raise UserError(f"{weights.file}: cannot be read ({error.strerror}); run the same command again") from error
    if hashlib.sha256(content).hexdigest() != weights.facts.sha256:
        raise UserError(f"{weights.file}: has changed since this run was planned; run the same command again")
    try:
        found = read(content)
    except SafetensorError as error:
        raise UserError(
            f"{weights.file}: no safetensors file ({error}); restore it or train that study again"
        ) from error
    if differing := _differences(*(_shapes(state) for state in (network.state_dict(), found))):
        more = f" and {len(differing) - MOST_NAMED} more" if len(differing) > MOST_NAMED else ""
        raise UserError(
            f"{weights.file}: does not fit the network: {'; '.join(differing[:MOST_NAMED])}{more}; "
            "expected a study with the same model and input.channels"
        )
    network.load_state_dict(found)


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in state.items()}


def _differences(ours: Mapping[str, tuple[int, ...]], theirs: Mapping[str, tuple[int, ...]]) -> list[str]:
    def shown(shape: tuple[int, ...] | None) -> str:
        return "none" if shape is None else "x".join(map(str, shape)) or "a number"

    return [
        f"{name} is {shown(ours.get(name))} here and {shown(theirs.get(name))} there"
        for name in dict.fromkeys((*ours, *theirs))
        if ours.get(name) != theirs.get(name)
    ]


def refuse_seen(task: Task, weights: Weights, study: Store) -> str:
    """Refuse a test on images that the weights were trained or chosen with, as after another split of one dataset.

    Args:
        task: what is tested on.
        weights: what runs start from.
        study: the study of these runs, whose splits are written.

    Returns:
        What could not be looked at, blank where all could.

    Raises:
        UserError: names how many images and one of them.
    """
    for source in task.test:
        if source.name not in weights.facts.train:
            continue
        theirs = _split(Store(weights.file.parents[4]).split_file(source.name))
        ours = _split(study.split_file(source.name))
        if not theirs or not ours:
            return f"whether the weights have seen test images is unknown: {weights.facts.study} keeps no list of them"
        # Files keep their names; stand-ins of other settings are other images of the same names.
        if source.synthetic and theirs["fingerprint"] != ours["fingerprint"]:
            continue
        if seen := sorted({*theirs["train"], *theirs["val"]} & {*ours["test"]}):
            raise UserError(
                f"{len(seen)} test image(s) of {source.name}, first {seen[0]}, are among those that study "
                f"{weights.facts.study} trained or validated on: the test would see what was trained on; use the "
                "protocol, seed and split of that study, or test on another dataset"
            )
    return ""


def _split(file: Path) -> dict[str, list[str]]:
    """Return the images of each part of a study's dataset, and its fingerprint; empty where there is no such list."""
    try:
        found = json.loads(read_limited(file, RECORD_BYTES))
        return {part: list(map(str, found[part])) for part in PARTS} | {"fingerprint": [str(found["fingerprint"])]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError, TooLargeError):
        return {}
