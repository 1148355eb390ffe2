"""Plans to repeat one run with the same settings, data and code."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.config import extension_code, registry
from benchmark.config.execution import Execution
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import dataset_of
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.records.own_networks import select_networks
from benchmark.records.run_record import Record
from benchmark.records.store import RECORD, Store, read_record
from benchmark.runs.staleness import changed_parts
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically


@dataclass(frozen=True)
class Original:
    """A finished run: the ``file`` of its record, the record, and the folder of its study."""

    file: Path
    record: Record
    study: Path

    @classmethod
    def read(cls, file: Path) -> Original:
        """Read a record, named by its file or its folder.

        Raises:
            UserError: no valid record, or the run did not finish.
        """
        file = file / RECORD if file.is_dir() else file
        record = read_record(file)
        if record is None:
            raise UserError(f"--reproduce {file}: no such file; expected the record.json of a run, or its folder")
        if record.status != "ok":
            kind = f", {record.failure.kind}" if record.failure else ""
            raise UserError(f"--reproduce {file}: the run has no numbers ({record.status}{kind}); name a finished one")
        # results/<study>/runs/<train>/<model>/<repeat>/record.json
        parents = file.resolve().parents
        return cls(file, record, parents[4] if len(parents) > 4 else parents[0])

    @property
    def device(self) -> str:
        """Default device for the repetition: ``cpu`` for a run on a CPU, else ``auto``."""
        return "cpu" if self.record.environment.get("device") == "cpu" else "auto"

    @property
    def threads(self) -> int | None:
        """CPU threads of the run, on which the order of sums depends."""
        return self.record.environment.get("threads")

    def execution(self, kind: str) -> Execution:
        """Return the run's execution mode, or ``auto`` if it ran on another kind of device than ``cpu`` or ``cuda``."""
        facts = self.record.environment
        if not str(facts.get("device")).startswith(kind):
            return "auto"
        modes: dict[object, Execution] = {"graph": "graph", "compile": "compile"}
        return modes.get(facts.get("execution"), "eager")  # the only mode of earlier releases

    def protocol(self, name: str | None) -> Protocol:
        """Return the run's settings from its study, or from a file or preset.

        Raises:
            UserError: there are none, or they differ from the run's.
        """
        stored = Store(self.study).protocol_file
        if name is None and not stored.is_file():
            raise UserError(f"--reproduce {self.file}: no {stored.name} in its study's folder; name it with --protocol")
        protocol = load_protocol(name if name is not None else stored, stored=True)
        if protocol.digest() != self.record.key_parts.protocol:
            raise UserError(
                f"--reproduce {self.file}: the run was made under other settings than those of {name or stored}; "
                "name its own with --protocol FILE"
            )
        self._refuse_other_code(protocol)
        return protocol

    def _refuse_other_code(self, protocol: Protocol) -> None:
        """Refuse losses, transforms and an encoder's file that are missing or no longer those of the run."""
        remedy = (
            "install the recorded version of the package, or restore the file; if that lies elsewhere now, name its "
            "place in a copy of protocol.toml and give that with --protocol"
        )
        try:
            now = extension_code.identities(protocol)
        except UserError as error:
            raise UserError(f"--reproduce {self.file}: {error}. The run had {protocol.extensions}: {remedy}") from error
        if changed := [name for name, code in protocol.extensions.items() if now.get(name) != code]:
            parts = (f"{name} was {protocol.extensions[name]} and is {now.get(name)} now" for name in changed)
            raise UserError(f"--reproduce {self.file}: another run by now: {'; '.join(parts)}; {remedy}")

    def network(self, models: str | None) -> ModelEntry:
        """Return the run's network, which ``--models`` may name; a user's own is found by its study.

        Raises:
            UserError: it is neither installed nor where its study says, or ``--models`` names another network.
        """
        name = self.record.model
        (entry, *others) = self._own_network() if models is None else registry.select(models)
        if others or entry.name != name:
            raise UserError(f"--models {models!r}: expected the one network of the record, {name!r}")
        return entry

    def _own_network(self) -> list[ModelEntry]:
        try:
            return select_networks(self.study, self.record.model)
        except UserError as error:
            raise UserError(f"--reproduce {self.file}: {error}, with --models") from error

    def task(self, datasets: str | None, data_root: Path, protocol: Protocol, cache: Path) -> Task:
        """Return the datasets that the run was trained and tested on.

        Raises:
            UserError: one of them is missing.
        """
        tested = tuple(dict.fromkeys(map(dataset_of, self.record.test)))
        names = dict.fromkeys((*self.record.train, *tested))
        hashes = HashCache(cache / "hashes.json")
        sources = {source.name: source for source in resolve(datasets or list(names), data_root, protocol, hashes)}
        if missing := [name for name in names if name not in sources]:
            raise UserError(
                f"--reproduce {self.file}: the run needs {', '.join(missing)}, found {', '.join(sources)}; "
                "name the folder of datasets with --data-root, or files that describe them with --datasets"
            )
        return Task(*(tuple(sources[name] for name in names) for names in (self.record.train, tested)))


def plan(original: Original, study: Study) -> Plan:
    """Return a plan with this run alone.

    Raises:
        UserError: the run would differ from the original, or the study's folder holds it already.
    """
    if study.folder.resolve() == original.study:
        raise UserError(f"--study {study.folder.name!r}: holds the original, which stays as it is; choose another name")
    whole = make_plan(study)
    todo = [job for job in whole.todo if job.repeat == original.record.repeat]
    if not todo:
        raise UserError(f"{study.folder}: holds that run already; choose another name for --study")
    if parts := changed_parts(original.record, todo[0].key_parts):
        code = original.record.environment.get("code", {})
        origin = f"; the run was made by version {code.get('version')}, commit {code.get('commit')}" if code else ""
        raise UserError(f"--reproduce {original.file}: another run by now, in {'; '.join(parts)}{origin}")
    layouts = Store(original.study).layouts_file
    if layouts.is_file() and not study.store.layouts_file.exists():  # the run might choose another layout
        write_atomically(study.store.layouts_file, layouts.read_bytes())
    jobs = {label: job for label, job in whole.expected.jobs.items() if label == todo[0].label}
    expected = replace(whole.expected, jobs=jobs, report=0.0)  # one run gets no report
    return replace(whole, done=[], failed=[], stale=[], todo=todo, measurements=[], expected=expected, whole=False)


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
    """Return a study that contains the run; flags of ``run`` that are ``None`` follow the record.

    Raises:
        UserError: settings, network or data of the run cannot be found.
    """
    settings = original.protocol(protocol)
    settings = settings.model_copy(update={"repeats": max(settings.repeats, original.record.repeat + 1)})
    task = original.task(datasets, data_root, settings, cache)
    # One run has the device to itself; its threads are not divided among several GPUs.
    hardware = replace(hardware, workers=1, gpus=hardware.gpus[:1])
    execution = execution or original.execution(hardware.kind)
    network = original.network(models)
    return Study(folder, settings, [network], [task], hardware, cache, "none", execution=execution)
