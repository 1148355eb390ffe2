"""Finds stale records: made under other settings, data, code or first weights."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmark import BEHAVIOUR
from benchmark.config import code_identity
from benchmark.config.protocol import Protocol, protocol_differences
from benchmark.data.tasks import Task
from benchmark.records.run_record import Failure, Initial, KeyParts, Record
from benchmark.records.store import Store
from benchmark.runs.jobs import TrainJob
from benchmark.utils.words import counted

#: Name of a run on disk: training datasets, model, repeat.
RunName = tuple[tuple[str, ...], str, int]


def run_name(run: TrainJob | Record) -> RunName:
    """Return the name of a run on disk: (training datasets, model, repeat)."""
    if isinstance(run, Record):
        return run.train, run.model, run.repeat
    return run.task.train_names, run.entry.name, run.repeat


#: Names of the parts of a run's key for messages.
PARTS = {
    "data": "the content of its datasets",
    "model": "the version of its network",
    "behaviour": "the behaviour number of the harness",
    "protocol": "its settings",
}


def changed_parts(record: Record, now: KeyParts) -> list[str]:
    """Return in words the parts of a run's key that differ from a record's.

    A user's edited file of the same version does not count, since it may compute the same.
    """

    def version(model: str) -> str:  # v1 of name-v1-<hash of a user's file>
        return model.removeprefix(f"{record.model}-").partition("-")[0]

    before, after = record.key_parts.model_dump(), now.model_dump()
    changed = {part for part in before | after if before.get(part) != after.get(part)}
    if version(before["model"]) == version(after["model"]):
        changed.discard("model")
    return sorted(f"{PARTS.get(part, part)} (recorded {before.get(part)}, now {after.get(part)})" for part in changed)


@dataclass
class Staleness:
    """Compares records with the runs ``asked`` for in a call; fine-tuned runs start from another study's weights."""

    store: Store
    protocol: Protocol
    asked: Mapping[RunName, TrainJob]
    tasks: Sequence[Task]
    fine_tuned: bool

    def __post_init__(self) -> None:
        self._digest = self.protocol.digest()
        self._tasks = {task.train_names: task for task in self.tasks}

    def stale(self, records: Iterable[Record]) -> dict[RunName, Record]:
        """Return the records of other settings, harness, data, code or first weights.

        A record whose run is not asked for is stale too, if its protocol, harness or kind of first weights differ.
        """
        expected = (self._digest, BEHAVIOUR, self.fine_tuned)
        stale = {}
        for record in records:
            job, parts = self.asked.get(run_name(record)), record.key_parts
            if (job and job.key != record.key) or (parts.protocol, parts.behaviour, parts.init is not None) != expected:
                stale[run_name(record)] = record
        return stale

    def reasons(self, record: Record) -> list[str]:
        """Return in words how a stale run differs from the run that is asked for."""
        reasons = []
        if record.key_parts.protocol != self._digest:
            reasons += self.differences
        if record.key_parts.behaviour != BEHAVIOUR:
            reasons.append(f"the harness's behaviour number: {record.key_parts.behaviour} -> {BEHAVIOUR}")
        reasons += self._other_start(record)
        reasons += self._other_code(record)
        task = self._tasks.get(record.train)
        if task is not None and task.test_names != record.test:
            reasons.append(f"tested on {', '.join(record.test)}, now on {', '.join(task.test_names)}")
        elif task is not None and task.fingerprint != record.key_parts.data:
            reasons.append(f"the content of {', '.join(source.name for source in task.sources)}")
        return reasons or [f"the code of {record.model}"]

    def explain(self, stale: Sequence[Record]) -> str:
        """Return how the study's files differ from the call, and the remedies; blank if nothing differs.

        Args:
            stale: the records that differ.
        """
        held = [counted(len(stale), "run")] if stale else []
        reasons = list(dict.fromkeys(reason for record in stale for reason in self.reasons(record)))
        if not stale and self.differs(self.store.read_protocol()):
            held, reasons = self.store.remains(), self.differences
        if not held:
            return ""
        return (
            f"{self.store.folder}: holds {', '.join(held)} made under something else: {'; '.join(reasons)}. "
            "Choose another study (--study NAME), or set those runs aside and run them again (--replace-stale)"
        )

    def _other_code(self, record: Record) -> list[str]:
        job = self.asked.get(run_name(record))
        if job is None or job.key_parts.model == record.key_parts.model:
            return []
        return [f"the code of {record.model}{code_identity.change(job.entry, record.environment.get('network_code'))}"]

    def differs(self, protocol: Protocol | None) -> bool:
        """Return whether a study's protocol, if any, differs from the call's."""
        return protocol is not None and protocol.digest() != self._digest

    def _other_start(self, record: Record) -> list[str]:
        job = self.asked.get(run_name(record))
        init = job.init.facts if job and job.init else None
        expected = record.key_parts.init if job is None else job.key_parts.init
        if record.key_parts.init == expected and (record.key_parts.init is not None) == self.fine_tuned:
            return []
        ours = _origin(init) if init or not self.fine_tuned else "those of another study or file"
        return [f"the weights that runs start from: {_origin(record.init)} -> {ours}"]

    @functools.cached_property
    def differences(self) -> list[str]:
        """The settings that differ between the study's folder and the call."""
        protocol = self.store.read_protocol()
        return (protocol_differences(protocol, self.protocol) if protocol else []) or ["the protocol"]


def refusal(job: TrainJob) -> Failure | None:
    """Return why the study's folder no longer fits this run, or ``None`` if it fits."""
    store, reasons = Store(job.study), []
    protocol = store.read_protocol()
    if protocol is not None and protocol.digest() != job.key_parts.protocol:
        reasons += protocol_differences(protocol, job.protocol)
    for source in job.task.sources:
        shared = store.shared(source.name)
        if shared is not None and shared.fingerprint != source.fingerprint:
            reasons.append(f"the content of {source.name}")
    record = store.read_record(job.task.train_names, job.entry.name, job.repeat)
    if record is not None and record.key != job.key:
        reasons += reasons or [f"{job.label} under another key: other data, code or first weights"]
    if not reasons:
        return None
    return Failure(
        kind="bad_input",
        message=f"{job.study}: another call has begun this study under something else: {'; '.join(reasons)}; "
        "nothing of it was replaced. Choose another study (--study NAME), or wait until that call has ended and "
        "replace what it made (--replace-stale)",
    )


def _origin(init: Initial | None) -> str:
    return "random ones" if init is None else f"{init.flag.replace(':', ', ')} ({init.sha256[:8]})"
