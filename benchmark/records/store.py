"""A study's folder: where everything lies, records written atomically and read with validation."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from pydantic import ValidationError

from benchmark import BEHAVIOUR
from benchmark.config import protocol as protocols
from benchmark.config.protocol import Protocol
from benchmark.data.splits import PARTS, Division
from benchmark.records import claims
from benchmark.records.efficiency_record import Form
from benchmark.records.history import Round, history_csv
from benchmark.records.run_record import SCHEMA, KeyParts, Record
from benchmark.records.stress_record import StressRecord
from benchmark.utils.errors import UserError
from benchmark.utils.files import TooLargeError, read_limited, write_atomically

RECORD = "record.json"
#: The most that a record may hold, bytes; one of many test datasets has a hundred thousand.
RECORD_BYTES = 16 << 20
WEIGHTS = "best.safetensors"
CHECKPOINT = "last.pt"


class BrokenRecordError(UserError):
    """A record that is none of this or an earlier release's: broken JSON, unknown fields, another run's."""


@dataclass(frozen=True)
class Broken:
    """A run whose record cannot be read.

    Attributes:
        folder: the run's.
        reason: names the file and what is wrong with it.
    """

    folder: Path
    reason: str

    @property
    def run(self) -> str:
        """What the run is called, by its place in the study."""
        return "/".join(self.folder.parts[-3:])


@dataclass(frozen=True)
class Shared:
    """Origin of the files that all runs on a dataset share: its split, reference rows, images for panels.

    Attributes:
        fingerprint: of the dataset.
        protocol: digest of every setting that can change a number.
        behaviour: the harness's own hand-raised number.
    """

    fingerprint: str
    protocol: str
    behaviour: int

    @classmethod
    def of(cls, protocol: Protocol, fingerprint: str) -> Shared:
        """Return what files would be made under now."""
        return cls(fingerprint, protocol.digest(), BEHAVIOUR)


class Store:
    """One study on disk; every path of the design comes from here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def protocol_file(self) -> Path:
        """The resolved protocol."""
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
        form: Form = "eager",
    ) -> Path:
        """Return where a network's efficiency figures lie; ``cuda:1`` is a kind of ``cuda``."""
        shape = f"{size}x{size}" if channels == 1 else f"{size}x{size}x{channels}"
        setting = f"{shape}.{device.partition(':')[0]}.{dtype}{'' if form == 'eager' else f'.{form}'}"
        return self.folder / "efficiency" / f"{model}.{setting}.json"

    def split_file(self, dataset: str) -> Path:
        """Return where the lists of training, validation and test images lie."""
        return self.folder / "splits" / f"{dataset}.json"

    def read_split(self, dataset: str) -> dict[str, list[str]]:
        """Return the images of each part, and the dataset's ``fingerprint``; empty where no such list can be read."""
        try:
            found = json.loads(read_limited(self.split_file(dataset), RECORD_BYTES))
            return {part: list(map(str, found[part])) for part in PARTS} | {"fingerprint": [str(found["fingerprint"])]}
        except (OSError, ValueError, KeyError, TypeError, RecursionError, TooLargeError):
            return {}

    def shared(self, dataset: str) -> Shared | None:
        """Return what a dataset's shared files were made under; ``None`` where there are none, or nothing tells."""
        try:
            found = json.loads(read_limited(self.split_file(dataset), RECORD_BYTES))
            return Shared(**{field.name: found[field.name] for field in fields(Shared)})
        except (OSError, ValueError, KeyError, TypeError, RecursionError, TooLargeError):
            return None

    def write_split(self, dataset: str, shared: Shared, division: Division, names: Sequence[str]) -> None:
        """Write which images are in which part; after a dataset's other shared files, for which it speaks too."""
        content = {
            "dataset": dataset,
            **asdict(shared),
            "digest": division.digest(names),
            **division.lists(names),
        }
        write_atomically(self.split_file(dataset), (json.dumps(content, indent=1) + "\n").encode())

    def remove_shared(self, dataset: str) -> None:
        """Remove the files that all runs on a dataset share; the split first, which speaks for the others."""
        rows = (self.folder / "references").glob("[!.]*.csv")
        others = [file for file in rows if file.stem.rpartition(".")[0] == dataset]
        for file in (self.split_file(dataset), *others, self.images_file(dataset)):
            file.unlink(missing_ok=True)

    def clear(self) -> None:
        """Make room for another protocol: remove all shared files, set trainings aside that left no record."""
        rows = {file.stem.rpartition(".")[0] for file in (self.folder / "references").glob("[!.]*.csv")}
        for dataset in rows | {file.stem for file in (self.folder / "splits").glob("[!.]*.json")}:
            self.remove_shared(dataset)
        for folder in {file.parent for file in self._below("runs", CHECKPOINT)}:
            if not (folder / RECORD).exists():
                train, model, repeat = folder.parts[-3:]
                self.set_aside(train.split("+"), model, int(repeat))

    def claimed(self) -> list[Path]:
        """Return the folders of runs and stress tests that a living process is doing."""
        claims_of = {file.parent for kind in ("runs", "stress") for file in self._below(kind, "claim.*")}
        return sorted(folder for folder in claims_of if claims.holder(folder) is not None)

    def remains(self) -> list[str]:
        """Say what there is that was made under the study's protocol, but for files that carry all of it themselves."""
        counted = {
            "run(s) under way": len(self.claimed()),
            "record(s)": len(self._record_files()),
            "unfinished training(s)": len(list(self._below("runs", CHECKPOINT))),
            "file(s) of reference rows": len(list((self.folder / "references").glob("[!.]*.csv"))),
        }
        return [f"{count} {what}" for what, count in counted.items() if count]

    def _below(self, kind: str, pattern: str) -> Iterator[Path]:
        return (self.folder / kind).glob(f"[!.]*/*/*/{pattern}")

    def reference_file(self, dataset: str, name: str) -> Path:
        """Return where the per-image counts of a method without training lie."""
        return self.folder / "references" / f"{dataset}.{name}.csv"

    def images_file(self, dataset: str) -> Path:
        """Return where the test images lie that a report shows."""
        return self.folder / "panels" / f"{dataset}.npz"

    def predictions_file(self, train: Sequence[str], model: str, repeat: int, dataset: str) -> Path:
        """Return where a run's predictions of these images lie."""
        return self.run_folder(train, model, repeat) / f"panels.{dataset}.npz"

    def stress_folder(self, train: Sequence[str], model: str, repeat: int) -> Path:
        """Return where a run's stress tests lie."""
        return self.folder / "stress" / "+".join(train) / model / str(repeat)

    def write_stress(self, record: StressRecord, counts: bytes) -> None:
        """Write a stress test's counts per image, the record last: counts without one are of nothing known."""
        folder = self.stress_folder(record.train, record.model, record.repeat)
        (folder / f"{record.stem}.json").unlink(missing_ok=True)
        write_atomically(folder / f"{record.stem}.csv", counts)
        write_atomically(folder / f"{record.stem}.json", record.to_json())

    def read_stress(self, wanted: StressRecord) -> StressRecord | None:
        """Return the record of the test that lies in a test's place, ``None`` where it is none or lacks its counts."""
        file = self.stress_folder(wanted.train, wanted.model, wanted.repeat) / f"{wanted.stem}.json"
        try:
            found = StressRecord.from_json(read_limited(file, RECORD_BYTES))
        except (OSError, ValidationError, TooLargeError):
            return None
        return found if file.with_suffix(".csv").is_file() else None

    def packages_file(self, digest: str) -> Path:
        """Return where the list of all packages of a record's ``environment["package_list"]`` lies."""
        return self.folder / "environment" / f"packages.{digest}.txt"

    def write_packages(self, packages: str) -> str:
        """Keep a list of packages once per study, under the hash that is returned."""
        digest = hashlib.sha256(packages.encode()).hexdigest()[:16]
        if not self.packages_file(digest).is_file():
            write_atomically(self.packages_file(digest), packages.encode())
        return digest

    def read_protocol(self) -> Protocol | None:
        """Return the study's protocol, or ``None`` for a new study."""
        return protocols.load(self.protocol_file, stored=True) if self.protocol_file.is_file() else None

    def write_protocol(self, protocol: Protocol) -> None:
        """Write the resolved protocol; also the first proof that the folder can be written."""
        write_atomically(self.protocol_file, protocol.to_toml().encode())

    def read_record(self, train: Sequence[str], model: str, repeat: int) -> Record | None:
        """Return a run's record, or ``None`` where there is none.

        Raises:
            BrokenRecordError: a record that is not valid; names the file and the fields.
            UserError: it cannot be read, or is of a newer release.
        """
        return self._read(self.run_folder(train, model, repeat) / RECORD)

    def records(self) -> Iterator[tuple[Path, Record]]:
        """Yield the folder and record of every run, in the order of their paths.

        Raises:
            BrokenRecordError: a record that is not valid; :meth:`survey` goes on behind it.
            UserError: one cannot be read, or is of a newer release.
        """
        for file in self._record_files():
            record = self._read(file)
            if record is not None:
                yield file.parent, record

    def survey(self) -> tuple[list[tuple[Path, Record]], list[Broken]]:
        """Return what :meth:`records` yields, and apart from it the runs whose records are broken.

        Raises:
            UserError: a record cannot be read, or is of a newer release.
        """
        found: list[tuple[Path, Record]] = []
        broken: list[Broken] = []
        for file in self._record_files():
            try:
                record = self._read(file)
            except BrokenRecordError as error:
                broken.append(Broken(file.parent, str(error)))
                continue
            if record is not None:
                found.append((file.parent, record))
        return found, broken

    def _record_files(self) -> list[Path]:
        return sorted(self._below("runs", RECORD))

    def _read(self, file: Path) -> Record | None:
        """Read a record that must be of the run that its folder is called after."""
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
        """Write a run's files, the record last: a folder without one was never finished."""
        folder = self.run_folder(record.train, record.model, record.repeat)
        for dataset, content in images.items():
            write_atomically(folder / f"images.{dataset}.csv", content)
        for dataset, content in panels.items():
            write_atomically(self.predictions_file(record.train, record.model, record.repeat, dataset), content)
        if history:
            write_atomically(folder / "history.csv", history_csv(history))
        if weights is not None:
            write_atomically(folder / WEIGHTS, weights)
        write_atomically(folder / RECORD, record.to_json())
        if record.status == "ok":
            (folder / CHECKPOINT).unlink(missing_ok=True)  # an interrupted or failed run goes on from it
        return folder

    def keep_best_weights(self, train: Sequence[str], model: str) -> None:
        """Remove the weights of all repeats but the one of the lowest validation loss, or the first without any.

        Called after a run's record is written: of two repeats that end at the same moment, the later one sees both.
        """
        losses: dict[int, float] = {}
        for file in self.run_folder(train, model, 0).parent.glob(f"*/{WEIGHTS}"):
            if not file.parent.name.isdigit():
                continue
            record = None
            with contextlib.suppress(BrokenRecordError):  # it is set aside when its turn comes
                record = self.read_record(train, model, int(file.parent.name))
            if record is not None and record.training is not None:
                loss = record.training.best_validation_loss
                losses[record.repeat] = math.inf if loss is None else loss
        for repeat in sorted(losses, key=lambda repeat: (losses[repeat], repeat))[1:]:
            (self.run_folder(train, model, repeat) / WEIGHTS).unlink(missing_ok=True)

    def set_aside(self, train: Sequence[str], model: str, repeat: int) -> None:
        """Move a run that no longer matches its study to ``runs/.stale``, numbered where several collect."""
        folder = self.run_folder(train, model, repeat)
        number = 0
        while (target := self.folder / "runs" / ".stale" / f"{'+'.join(train)}.{model}.{repeat}.{number}").exists():
            number += 1
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(folder, target)


def read_record(file: Path) -> Record | None:
    """Read one record file; ``None`` where there is none.

    Raises:
        BrokenRecordError: broken JSON, or fields that the schema does not have.
        UserError: it cannot be read, or is of a newer release.
    """
    try:
        content = read_limited(file, RECORD_BYTES)
    except FileNotFoundError:
        return None
    except TooLargeError as error:
        raise BrokenRecordError(str(error)) from error
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        return Record.model_validate_json(content)
    except ValidationError as error:
        schema = _schema_of(content)
        if schema > SCHEMA:
            raise UserError(
                f"{file}: a record of schema {schema}, made by a newer release; this one reads up to {SCHEMA}: "
                "update it, or use another --study"
            ) from error
        problem = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in problem["loc"])[:100] or "content"
        where = "".join(character if character.isprintable() else "?" for character in where)
        raise BrokenRecordError(f"{file}: not a valid record ({where}: {problem['msg']})") from error


def _schema_of(content: bytes) -> int:
    """Return the number of the schema that a record names; 0 where it names none."""
    try:
        named = json.loads(content)["schema"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return 0
    return named if isinstance(named, int) else 0


def run_key(parts: KeyParts) -> str:
    """Hash what a run's numbers depend on; parts that a run does not have change no key."""
    return hashlib.sha256(json.dumps(parts.model_dump(exclude_none=True), sort_keys=True).encode()).hexdigest()[:16]
