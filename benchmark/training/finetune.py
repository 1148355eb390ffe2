"""Finds, checks and loads the weights that fine-tuning starts from."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.records.packed_study import has_runs
from benchmark.records.run_record import Initial
from benchmark.records.store import Store
from benchmark.records.user_folders import find_training
from benchmark.records.weights import best_repeat, kept_weights, load_weights, read_weights
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Weights:
    """The file of a run's initial weights and the facts for its record."""

    file: Path
    facts: Initial


@dataclass(frozen=True)
class Start:
    """The value of ``--init-from`` that names another study.

    Attributes:
        store: the other study.
        train: its training set; ``None`` for the only training set of a model there.
    """

    store: Store
    train: str | None

    @classmethod
    def of(cls, folder: Path, train: str, study: Path) -> Start:
        """Find the other study.

        Args:
            folder: of the other study.
            train: its training set, such as ``omc+miic``; blank for the only one.
            study: folder of the study that starts from it.

        Raises:
            UserError: the folder holds no study, or it is the same study.
        """
        start = cls(Store(folder), train or None)
        if folder.resolve() == study.resolve():
            raise UserError(f"{start.flag}: a study cannot start from itself; give the new one a --study NAME")
        if not has_runs(folder):
            raise UserError(
                f"{start.flag}: no runs in {folder}; expected a study's folder or name, or a file of weights"
            )
        return start

    @property
    def flag(self) -> str:
        """The flag and its value."""
        return f"--init-from {self.store.folder.name}{f':{self.train}' * bool(self.train)}"

    @property
    def name(self) -> str:
        """The other study, in words."""
        return f"study {self.store.folder.name}"

    def weights(self, model: str, repeat: int, hashes: HashCache) -> Weights:
        """Return the initial weights of a model's repeat: of the same repeat in the other study, else of its best.

        Args:
            model: name of the network in both studies.
            repeat: of the new run.
            hashes: caches the digests of files.

        Raises:
            UserError: the other study has no weights of the model, or several training sets and no choice.
        """
        study = self.store.folder.name
        prefix = f"--init-from {study}:"
        train, files = kept_weights(self.store, model, self.train, self.flag, prefix)
        if repeat not in files:
            repeat = best_repeat(self.store, train, model, files)
        file = files[repeat]
        facts = Initial(study=study, train=tuple(train.split("+")), repeat=repeat, sha256=_digest(file, hashes))
        return Weights(file, facts)


@dataclass(frozen=True)
class FileStart:
    """The value of ``--init-from`` that is a file of one model's weights; all repeats start from it."""

    file: Path

    @property
    def flag(self) -> str:
        """The flag and its value."""
        return f"--init-from {self.file}"

    @property
    def name(self) -> str:
        """The file, in words."""
        return f"file {self.file.name}"

    def weights(self, model: str, repeat: int, hashes: HashCache) -> Weights:
        """Return the initial weights, the same for each model and repeat."""
        return Weights(self.file, Initial(study=self.file.name, sha256=_digest(self.file, hashes)))


def start_of(text: str, results: Path, study: Path, models: Sequence[str]) -> Start | FileStart:
    """Read ``--init-from``.

    Args:
        text: a study's name or path with its training set after a colon, or a file of weights.
        results: folder of studies.
        study: folder of the study that starts from it.
        models: names of its networks.

    Raises:
        UserError: no such study or file, the same study, or a file for several networks.
    """
    file = Path(text)
    if not file.is_file():
        return Start.of(*find_training(results, text, "--init-from"), study)
    if len(models) > 1:
        raise UserError(
            f"--init-from {text}: weights of one network; expected one in --models, found {len(models)} "
            f"({', '.join(models)}), each of which needs a study of its own"
        )
    return FileStart(file)


def _digest(file: Path, hashes: HashCache) -> str:
    digest = hashes.digest(file)
    hashes.save()
    return digest


def load_initial_weights(network: nn.Module, start: Weights) -> None:
    """Load weights into a network; only tensors are read from the file.

    Raises:
        UserError: the file is missing, changed since the plan, no file of weights or of another network.
    """
    content = read_weights(start.file)
    if hashlib.sha256(content).hexdigest() != start.facts.sha256:
        raise UserError(f"{start.file}: has changed since this run was planned; run the same command again")
    load_weights(network, start.file, content)


def refuse_seen(task: Task, start: Weights, study: Store, repeat: int) -> str:
    """Refuse a test on images that the initial weights were trained or validated on.

    Args:
        task: its test sets are checked.
        start: initial weights of the run.
        study: of the run; its splits are written.
        repeat: of the run, whose fold is tested on if there are folds.

    Returns:
        A note if the check was impossible, otherwise blank.

    Raises:
        UserError: gives the number of these images and the name of the first.
    """
    if not start.facts.train:
        return f"whether the weights have seen test images is unknown: {start.facts.study} does not tell"
    for source in task.test:
        if source.name not in start.facts.train:
            continue
        earlier = Store(start.file.parents[4]).read_split(source.name, start.facts.repeat or 0)
        split = study.read_split(source.name, repeat)
        if not earlier or not split:
            return f"whether the weights have seen test images is unknown: {start.facts.study} keeps no list of them"
        # Stand-ins of other settings are other images with the same names.
        if source.synthetic and earlier["fingerprint"] != split["fingerprint"]:
            continue
        if leaked := sorted({*earlier["train"], *earlier["val"]} & {*split["test"]}):
            raise UserError(
                f"test images of {source.name} that study {start.facts.study} trained or validated on in repeat "
                f"{start.facts.repeat}: {len(leaked)}, first {leaked[0]}: the test would see what was trained on; use "
                "the protocol, seed and split of that study (with split.folds, one that was run with --keep-weights "
                "all), or test on another dataset"
            )
    return ""
