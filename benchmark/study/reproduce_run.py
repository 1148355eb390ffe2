"""Plans to repeat one run from its record, under the same settings, data and code."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config import protocol as protocols
from benchmark.config import registry
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.datasets import Source, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.devices.hardware import Hardware
from benchmark.records.run_record import Record
from benchmark.records.store import Store, read_record
from benchmark.runs.staleness import changed_parts
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class Original:
    """A finished run on record.

    Attributes:
        file: its record.
        record: what that says.
        study: the folder of its study, if the record lies in one.
    """

    file: Path
    record: Record
    study: Path

    @classmethod
    def read(cls, file: Path) -> Original:
        """Read a record.

        Raises:
            UserError: no valid record, or one of a run that did not finish.
        """
        record = read_record(file)
        if record is None:
            raise UserError(f"--reproduce {file}: no such file; expected the record.json of a run")
        if record.status != "ok":
            kind = f", {record.failure.kind}" if record.failure else ""
            raise UserError(f"--reproduce {file}: the run has no numbers ({record.status}{kind}); name a finished one")
        # results/<study>/runs/<train>/<model>/<repeat>/record.json
        parents = file.resolve().parents
        return cls(file, record, parents[4] if len(parents) > 4 else parents[0])

    @property
    def device(self) -> str:
        """The device to repeat it on if nobody names one: a CPU for a CPU's run, else whatever is there."""
        return "cpu" if self.record.environment.get("device") == "cpu" else "auto"

    @property
    def threads(self) -> int | None:
        """The run's CPU threads, on which the order of sums depends."""
        return self.record.environment.get("threads")

    def execution(self, kind: str) -> Execution:
        """Return how its work was given to its device; on another kind of device, the one that is chosen there.

        Args:
            kind: of the device to repeat it on, ``cpu`` or ``cuda``.
        """
        facts = self.record.environment
        if not str(facts.get("device")).startswith(kind):
            return "auto"
        made: dict[object, Execution] = {"graph": "graph", "compile": "compile"}
        return made.get(facts.get("execution"), "eager")  # earlier releases had nothing else

    def protocol(self, given: str | None) -> Protocol:
        """Return the settings of the run: its study's, or those of a file or preset that the user names.

        Raises:
            UserError: there are none, or they are others than the run's.
        """
        stored = Store(self.study).protocol_file
        if given is None and not stored.is_file():
            raise UserError(f"--reproduce {self.file}: no {stored.name} in its study's folder; name it with --protocol")
        found = protocols.load(given if given is not None else stored, stored=True)
        if found.digest() != self.record.key_parts.protocol:
            raise UserError(
                f"--reproduce {self.file}: the run was made under other settings than those of {given or stored}; "
                "name its own with --protocol FILE"
            )
        return found

    def network(self, given: str | None) -> ModelEntry:
        """Return the network.

        Raises:
            UserError: it is none that is installed here, or the user names another one.
        """
        name = self.record.model
        if given is None and name not in registry.models():
            raise UserError(
                f"--reproduce {self.file}: {name!r} is a user's own network, of which a record knows no place; "
                "name it with --models path/to/file.py:Class"
            )
        (entry, *others) = registry.select(name if given is None else given)
        if others or entry.name != name:
            raise UserError(f"--models {given!r}: expected the one network of the record, {name!r}")
        return entry

    def task(self, given: str | None, data_root: Path, protocol: Protocol, cache: Path) -> Task:
        """Return the datasets that the run was trained and tested on.

        Raises:
            UserError: one is not there.
        """
        names = dict.fromkeys((*self.record.train, *self.record.test))
        hashes = HashCache(cache / "hashes.json")
        found = {source.name: source for source in resolve(given or list(names), data_root, protocol, hashes)}
        if missing := [name for name in names if name not in found]:
            raise UserError(
                f"--reproduce {self.file}: the run needs {', '.join(missing)}, found {', '.join(found)}; "
                "name the folder of datasets with --data-root, or files that describe them with --datasets"
            )

        def part(wanted: Sequence[str]) -> tuple[Source, ...]:
            return tuple(found[name] for name in wanted)

        return Task(part(self.record.train), part(self.record.test))


def plan(original: Original, study: Study) -> Plan:
    """Return a plan of nothing but the run.

    Raises:
        UserError: the run would not be the same one, or the study's folder holds it already.
    """
    if study.folder.resolve() == original.study:
        raise UserError(f"--study {study.folder.name!r}: holds the original, which stays as it is; choose another name")
    whole = make_plan(study)
    todo = [job for job in whole.todo if job.repeat == original.record.repeat]
    if not todo:
        raise UserError(f"{study.folder}: holds that run already; choose another name for --study")
    if parts := changed_parts(original.record, todo[0].key_parts):
        code = original.record.environment.get("code", {})
        made = f"; the run was made by version {code.get('version')}, commit {code.get('commit')}" if code else ""
        raise UserError(f"--reproduce {original.file}: another run by now, in {'; '.join(parts)}{made}")
    return replace(whole, done=[], failed=[], stale=[], todo=todo, measurements=[])


def build(
    original: Original,
    folder: Path,
    data_root: Path,
    cache: Path,
    hardware: Hardware,
    *,
    models: str | None,
    datasets: str | None,
    protocol: str | None,
    execution: Execution | None = None,
) -> Study:
    """Return a study that the run is part of.

    Args:
        original: the run.
        folder: where the repeated run is to lie.
        data_root: the folder of datasets.
        cache: where packs live.
        hardware: to compute on.
        models: ``--models`` if it was given.
        datasets: ``--datasets`` if it was given.
        protocol: ``--protocol`` if it was given.
        execution: ``--execution`` if it was given.

    Raises:
        UserError: settings, network or data of the run are not to be had.
    """
    settings = original.protocol(protocol)
    settings = settings.model_copy(update={"repeats": max(settings.repeats, original.record.repeat + 1)})
    task = original.task(datasets, data_root, settings, cache)
    # One run has the device to itself; its threads are not divided among several GPUs.
    hardware = replace(hardware, workers=1, gpus=hardware.gpus[:1])
    execution = execution or original.execution(hardware.kind)
    network = original.network(models)
    return Study(folder, settings, [network], [task], hardware, cache, "none", execution=execution)
