"""Defines a study's folder: all paths, atomic writing and validated reading."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from benchmark import BEHAVIOUR
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.targets import dataset_of
from benchmark.data.splits import PARTS, Division
from benchmark.records import claims
from benchmark.records.efficiency_record import Form
from benchmark.records.ensemble_record import EnsembleRecord
from benchmark.records.history import HISTORY, Round, history_csv
from benchmark.records.packed_study import is_stored, read_stored, stored_files
from benchmark.records.run_record import LAYERS_SCHEMA, KeyParts, Record
from benchmark.records.schema import fault
from benchmark.records.stress_record import StressRecord
from benchmark.utils.errors import UserError
from benchmark.utils.files import TooLargeError, write_atomically
from benchmark.utils.words import counted

RECORD = "record.json"
#: Folders of a study with a folder for each training set, each model in it, and each repeat or ensemble of that.
KINDS = ("runs", StressRecord.kind, EnsembleRecord.kind)
#: The most that a record may hold, bytes; one of many test datasets has a hundred thousand.
RECORD_BYTES = 16 << 20
WEIGHTS = "best.safetensors"
CHECKPOINT = "last.pt"
#: Errors of a file of JSON that is missing, broken or without the expected fields.
UNREADABLE = (OSError, ValueError, LookupError, TypeError, RecursionError, TooLargeError)
REMEDY = "restore it, or move its folder away and run the study again"


class BrokenRecordError(UserError):
    """A record that no release up to this one wrote there: broken JSON, unknown fields, or another run's."""


@dataclass(frozen=True)
class Broken:
    """A run, by its ``folder``, whose record cannot be read; ``reason`` names the file and its fault."""

    folder: Path
    reason: str

    @property
    def run(self) -> str:
        """Name of the run: ``omc-syn/unet/0``."""
        return "/".join(self.folder.parts[-3:])


@dataclass(frozen=True)
class Shared:
    """Origin of the files that all runs on a dataset share: its split, reference rows, images for panels.

    ``fingerprint`` is that of the dataset; ``protocol`` is a digest of all settings that can change a number.
    """

    fingerprint: str
    protocol: str
    behaviour: int

    @classmethod
    def of(cls, protocol: Protocol, fingerprint: str) -> Shared:
        """Return the origin of files that are made now."""
        return cls(fingerprint, protocol.digest(), BEHAVIOUR)


class Store:
    """One study on disk; all of its paths are made here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def protocol_file(self) -> Path:
        """File of the resolved protocol."""
        return self.folder / "protocol.toml"

    def run_folder(self, train: Sequence[str], model: str, repeat: int) -> Path:
        """Return the folder of a run."""
        return self.folder / "runs" / "+".join(train) / model / str(repeat)

    def efficiency_file(
        self,
        model: str,
        size: int,
        device: str,
        dtype: str = "float32",
        *,
        channels: int = 1,
        classes: int = 1,
        form: Form = "eager",
    ) -> Path:
        """Return the file of a network's efficiency figures; all GPUs share one, as ``cuda``."""
        shape = f"{size}x{size}" if channels == 1 else f"{size}x{size}x{channels}"
        shape += f".{classes}layers" if classes > 1 else ""
        setting = f"{shape}.{device.partition(':')[0]}.{dtype}{'' if form == 'eager' else f'.{form}'}"
        return self.folder / "efficiency" / f"{model}.{setting}.json"

    def split_file(self, dataset: str) -> Path:
        """Return the file that lists training, validation and test images."""
        return self.folder / "splits" / f"{dataset}.json"

    def read_split(self, dataset: str, repeat: int = 0) -> dict[str, list[str]]:
        """Return the images of each part, and the dataset's ``fingerprint``; empty if the lists cannot be read.

        Args:
            dataset: its name, ``-syn`` included.
            repeat: whose lists these are; without folds, all repeats share them.
        """
        with contextlib.suppress(*UNREADABLE):
            split = json.loads(read_stored(self.split_file(dataset), RECORD_BYTES))
            parts = _of_fold(split["folds"], repeat) if "folds" in split else split
            return {part: list(map(str, parts[part])) for part in PARTS} | {"fingerprint": [str(split["fingerprint"])]}
        return {}

    def shared(self, dataset: str) -> Shared | None:
        """Return the origin of a dataset's shared files; ``None`` without files or without their origin."""
        with contextlib.suppress(*UNREADABLE):
            split = json.loads(read_stored(self.split_file(dataset), RECORD_BYTES))
            return Shared(**{field.name: split[field.name] for field in fields(Shared)})
        return None

    def write_split(self, dataset: str, shared: Shared, divided: Sequence[Division], names: Sequence[str]) -> None:
        """Write the images of each part, after the dataset's other shared files, whose origin it holds too.

        Of several divisions, one per fold, the training images are left out: they are all others in the file.
        """
        lists: list[dict[str, object]] = [
            {"digest": division.digest(names), **division.lists(names)} for division in divided
        ]
        content = {"dataset": dataset, **asdict(shared), **lists[0]}
        if len(lists) > 1:
            folds = [{name: value for name, value in fold.items() if name != "train"} for fold in lists]
            content = {"dataset": dataset, **asdict(shared), "folds": folds}
        write_atomically(self.split_file(dataset), (json.dumps(content, indent=1) + "\n").encode())

    def remove_shared(self, dataset: str) -> None:
        """Remove the files that all runs on a dataset share; the split first, which holds the origin of the others."""
        of_dataset = {file: dataset_of(file.stem.rpartition(".")[0]) for file in self._reference_files()}
        of_dataset |= {file: dataset_of(file.stem) for file in (self.folder / "panels").glob("[!.]*.npz")}
        for file in (self.split_file(dataset), *(file for file, name in of_dataset.items() if name == dataset)):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Make room for another protocol: remove all shared files, set aside trainings without a record."""
        rows = {dataset_of(file.stem.rpartition(".")[0]) for file in self._reference_files()}
        for dataset in rows | {file.stem for file in (self.folder / "splits").glob("[!.]*.json")}:
            self.remove_shared(dataset)
        for folder in {file.parent for file in self._below("runs", CHECKPOINT)}:
            if not (folder / RECORD).exists():
                train, model, repeat = folder.parts[-3:]
                self.set_aside(train.split("+"), model, int(repeat))

    def claimed(self) -> list[Path]:
        """Return the folders of runs and of later tests that living processes have claimed."""
        claims_of = {file.parent for kind in KINDS for file in self._below(kind, "claim.*")}
        return sorted(folder for folder in claims_of if claims.holder(folder) is not None)

    def remains(self) -> list[str]:
        """Count in words what was made under the study's protocol, except files that hold all settings themselves."""
        remains = (
            (len(self.claimed()), "run", " under way"),
            (len(self._record_files()), "record", ""),
            (len(list(self._below("runs", CHECKPOINT))), "unfinished training", ""),
            (len(self._reference_files()), "file", " of reference rows"),
        )
        return [counted(count, noun) + rest for count, noun, rest in remains if count]

    def unfinished(self) -> list[str]:
        """Count in words what processes are doing in the study and what they left to be continued."""
        counts = (
            (len(self.claimed()), "run under way"),
            (len(list(self._below("runs", CHECKPOINT))), "unfinished training"),
        )
        return [counted(count, noun) for count, noun in counts if count]

    def _below(self, kind: str, pattern: str) -> Iterator[Path]:
        return (self.folder / kind).glob(f"[!.]*/*/*/{pattern}")

    def _reference_files(self) -> list[Path]:
        return stored_files(self.folder, "references/[!.]*.csv")

    def reference_file(self, dataset: str, name: str) -> Path:
        """Return the file of the counts per image of a method without training."""
        return self.folder / "references" / f"{dataset}.{name}.csv"

    def images_file(self, dataset: str) -> Path:
        """Return the file of the test images that a report shows."""
        return self.folder / "panels" / f"{dataset}.npz"

    def predictions_file(self, train: Sequence[str], model: str, repeat: int, dataset: str) -> Path:
        """Return the file of a run's predictions of these images."""
        return self.run_folder(train, model, repeat) / f"panels.{dataset}.npz"

    def test_file(self, record: StressRecord | EnsembleRecord) -> Path:
        """Return the file of a stress test's or an ensemble's record; its counts per image lie beside it."""
        folder = self.folder / record.kind / "+".join(record.train) / record.model / record.part
        return folder / f"{record.stem}.json"

    def write_test(self, record: StressRecord | EnsembleRecord, counts: bytes) -> None:
        """Write such a test's counts per image, then its record: counts without a record are ignored."""
        file = self.test_file(record)
        file.unlink(missing_ok=True)
        write_atomically(file.with_suffix(".csv"), counts)
        write_atomically(file, record.to_json())

    def has_test(self, record: StressRecord | EnsembleRecord) -> bool:
        """Return whether such a test's counts are stored, with an equal record."""
        file = self.test_file(record)
        with contextlib.suppress(OSError, ValidationError, TooLargeError):
            stored = type(record).from_json(read_stored(file, RECORD_BYTES))
            return stored == record and is_stored(file.with_suffix(".csv"))
        return False

    def packages_file(self, digest: str) -> Path:
        """Return the file with the packages of a record's ``environment["package_list"]``."""
        return self.folder / "environment" / f"packages.{digest}.txt"

    def write_packages(self, packages: str) -> str:
        """Store a list of packages, once per study, and return its hash."""
        digest = hashlib.sha256(packages.encode()).hexdigest()[:16]
        if not self.packages_file(digest).is_file():
            write_atomically(self.packages_file(digest), packages.encode())
        return digest

    @property
    def layouts_file(self) -> Path:
        """File of the layouts that runs on GPUs have chosen, with the times of a step."""
        return self.folder / "environment" / "layouts.json"

    def read_protocol(self) -> Protocol | None:
        """Return the study's protocol, or ``None`` for a new study."""
        return load_protocol(self.protocol_file, stored=True) if self.protocol_file.is_file() else None

    def write_protocol(self, protocol: Protocol) -> None:
        """Write the resolved protocol; also the first test whether the folder can be written."""
        write_atomically(self.protocol_file, protocol.to_toml().encode())

    def read_record(self, train: Sequence[str], model: str, repeat: int) -> Record | None:
        """Return a run's record, or ``None`` without one.

        Raises:
            BrokenRecordError: the record is not valid; names the file and the fields.
            UserError: it cannot be read, or was written by a newer release.
        """
        return self._read(self.run_folder(train, model, repeat) / RECORD)

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield the folder and record of every run, in the order of their paths.

        Raises:
            BrokenRecordError: a record is not valid; :meth:`survey` continues after it.
            UserError: a record cannot be read, or was written by a newer release.
        """
        for file in self._record_files():
            if (record := self._read(file)) is not None:
                yield file.parent, record

    def survey(self) -> tuple[list[tuple[Path, Record]], list[Broken]]:
        """Return folder and record of every run, and separately the runs with broken records.

        Raises:
            UserError: a record cannot be read, or was written by a newer release.
        """
        records: list[tuple[Path, Record]] = []
        broken: list[Broken] = []
        for file in self._record_files():
            try:
                if (record := self._read(file)) is not None:
                    records.append((file.parent, record))
            except BrokenRecordError as error:
                broken.append(Broken(file.parent, str(error)))
        return records, broken

    def _record_files(self) -> list[Path]:
        return stored_files(self.folder, f"runs/[!.]*/*/*/{RECORD}")

    def _read(self, file: Path) -> Record | None:
        """Read a record, which must belong to the run of its folder."""
        record = read_record(file)
        if record is not None and file.parent != self.run_folder(record.train, record.model, record.repeat):
            raise BrokenRecordError(f"{file}: is the record of another run, {record.label}")
        return record

    def write_run(
        self,
        record: Record,
        images: dict[str, bytes],
        history: Sequence[Round],
        weights: bytes | None,
        panels: Mapping[str, bytes] = {},
    ) -> Path:
        """Write a run's files, the record last: a folder without a record was not finished."""
        folder = self.run_folder(record.train, record.model, record.repeat)
        for dataset, content in images.items():
            write_atomically(folder / f"images.{dataset}.csv", content)
        for dataset, content in panels.items():
            write_atomically(self.predictions_file(record.train, record.model, record.repeat, dataset), content)
        if history:
            write_atomically(folder / HISTORY, history_csv(history))
        if weights is not None:
            write_atomically(folder / WEIGHTS, weights)
        write_atomically(folder / RECORD, record.to_json())
        if record.status == "ok":
            (folder / CHECKPOINT).unlink(missing_ok=True)  # an interrupted or failed run continues from it
        return folder

    def keep_best_weights(self, train: Sequence[str], model: str) -> None:
        """Remove the weights of all repeats but the one of the lowest validation loss, or the first without any.

        Called after a run's record is written: of two repeats that end at the same moment, the later one sees both.
        """
        losses = self.validation_losses("+".join(train), model)
        for repeat in sorted(losses, key=lambda repeat: (losses[repeat], repeat))[1:]:
            (self.run_folder(train, model, repeat) / WEIGHTS).unlink(missing_ok=True)

    def kept_weights(self, train: str, model: str) -> dict[int, Path]:
        """Return the files of weights by repeat; ``train`` joins the training datasets by ``+``."""
        files = (self.folder / "runs" / train / model).glob(f"*/{WEIGHTS}")
        return {int(file.parent.name): file for file in files if file.parent.name.isdecimal()}

    def validation_losses(self, train: str, model: str) -> dict[int, float]:
        """Return the best validation loss of each trained repeat with weights, infinity without a validation."""
        losses: dict[int, float] = {}
        for repeat in self.kept_weights(train, model):
            with contextlib.suppress(BrokenRecordError):  # its own run sets it aside
                record = self.read_record(train.split("+"), model, repeat)
                if record is not None and record.training is not None:
                    loss = record.training.best_validation_loss
                    losses[repeat] = math.inf if loss is None else loss
        return losses

    def set_aside(self, train: Sequence[str], model: str, repeat: int) -> None:
        """Move a run that no longer matches its study to ``runs/.stale``, under the next free number."""
        name = self.folder / "runs" / ".stale" / f"{'+'.join(train)}.{model}.{repeat}"
        targets = (name.with_name(f"{name.name}.{number}") for number in itertools.count())
        target = next(target for target in targets if not target.exists())
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(self.run_folder(train, model, repeat), target)


def _of_fold(folds: Sequence[Mapping[str, list[str]]], repeat: int) -> dict[str, list[str]]:
    """Return the three lists of a fold; every image of a part is in the test of one fold."""
    val, test = folds[repeat]["val"], folds[repeat]["test"]
    everything = {name for fold in folds for name in fold["test"]}
    return {"train": sorted(everything - {*val, *test}), "val": val, "test": test}


def read_record(file: Path) -> Record | None:
    """Read one record file; ``None`` without one.

    Raises:
        BrokenRecordError: broken JSON, or fields that the schema does not have.
        UserError: it cannot be read, or was written by a newer release.
    """
    try:
        content = read_stored(file, RECORD_BYTES)
    except FileNotFoundError:
        return None
    except TooLargeError as error:
        raise BrokenRecordError(str(error)) from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror}); {REMEDY}") from error
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        schema = _schema_of(content)
        if schema > LAYERS_SCHEMA:
            raise UserError(
                f"{file}: a record of schema {schema}, made by a newer release; this one reads up to {LAYERS_SCHEMA}: "
                "update it, or use another --study"
            ) from error
        raise BrokenRecordError(f"{file}: not a valid record ({fault(error)}); {REMEDY}") from error


def _schema_of(content: bytes) -> int:
    """Return the schema number in a record, 0 without one."""
    with contextlib.suppress(*UNREADABLE):
        schema = json.loads(content)["schema"]
        return schema if isinstance(schema, int) else 0
    return 0


def run_key(parts: KeyParts) -> str:
    """Hash the parts that a run's numbers depend on; parts that are ``None`` change no key."""
    return hashlib.sha256(json.dumps(parts.model_dump(exclude_none=True), sort_keys=True).encode()).hexdigest()[:16]
