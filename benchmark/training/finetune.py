"""Finds, checks and loads the weights of another study that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.records import weights
from benchmark.records.run_record import Initial
from benchmark.records.store import Store
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


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
        name_one = f"--init-from {self.store.folder.name}:"
        train, kept = weights.kept_weights(self.store, model, self.train, self.flag, name_one)
        chosen = repeat if repeat in kept else weights.best(self.store, train, model, kept)
        facts = Initial(
            study=self.store.folder.name,
            train=tuple(train.split("+")),
            repeat=chosen,
            sha256=hashes.digest(kept[chosen]),
        )
        hashes.save()
        return Weights(kept[chosen], facts)


def load(network: nn.Module, start: Weights) -> None:
    """Put weights into a network; nothing but tensors is read from the file.

    Raises:
        UserError: the file is gone, changed since the plan was made, no safetensors file, or of another network.
    """
    content = weights.read(start.file)
    if hashlib.sha256(content).hexdigest() != start.facts.sha256:
        raise UserError(f"{start.file}: has changed since this run was planned; run the same command again")
    weights.load(network, start.file, content)


def refuse_seen(task: Task, start: Weights, study: Store) -> str:
    """Refuse a test on images that the weights were trained or chosen with, as after another split of one dataset.

    Args:
        task: what is tested on.
        start: what runs start from.
        study: the study of these runs, whose splits are written.

    Returns:
        What could not be looked at, blank where all could.

    Raises:
        UserError: names how many images and one of them.
    """
    for source in task.test:
        if source.name not in start.facts.train:
            continue
        theirs = Store(start.file.parents[4]).read_split(source.name)
        ours = study.read_split(source.name)
        if not theirs or not ours:
            return f"whether the weights have seen test images is unknown: {start.facts.study} keeps no list of them"
        # Files keep their names; stand-ins of other settings are other images of the same names.
        if source.synthetic and theirs["fingerprint"] != ours["fingerprint"]:
            continue
        if seen := sorted({*theirs["train"], *theirs["val"]} & {*ours["test"]}):
            raise UserError(
                f"{len(seen)} test image(s) of {source.name}, first {seen[0]}, are among those that study "
                f"{start.facts.study} trained or validated on: the test would see what was trained on; use the "
                "protocol, seed and split of that study, or test on another dataset"
            )
    return ""
