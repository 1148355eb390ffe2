"""Runs in a study's folder that were made under something else than what is asked for now: what that was."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmark import BEHAVIOUR, registry
from benchmark import protocol as protocols
from benchmark.data.tasks import Task
from benchmark.jobs import TrainJob
from benchmark.protocol import Protocol
from benchmark.records import Initial, Record
from benchmark.store import Store

#: What a run is called on disk: training datasets, model, repeat.
RunName = tuple[tuple[str, ...], str, int]


class Staleness:
    """Compares records with what is asked for now."""

    def __init__(
        self,
        store: Store,
        protocol: Protocol,
        asked: Mapping[RunName, TrainJob],
        tasks: Sequence[Task],
        *,
        fine_tuned: bool,
    ) -> None:
        """Keep what is asked for.

        Args:
            store: the study.
            protocol: all settings.
            asked: the runs.
            tasks: the datasets.
            fine_tuned: whether runs are to start from another study's weights.
        """
        self.store, self.protocol, self.asked, self.fine_tuned = store, protocol, asked, fine_tuned
        self._digest = protocol.digest()
        self._tasks = {task.train_names: task for task in tasks}
        self._settings: list[str] | None = None

    def has_other_settings(self, record: Record) -> bool:
        """Tell whether any run, asked for or not, is of another protocol, harness, or kind of first weights."""
        parts = record.key_parts
        expected = (self._digest, BEHAVIOUR, self.fine_tuned)
        return (parts.protocol, parts.behaviour, parts.init is not None) != expected

    def reasons(self, record: Record) -> list[str]:
        """Say in what a stale run differs from what is asked for now."""
        reasons = []
        if record.key_parts.protocol != self._digest:
            reasons += self._differences()
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
        """Say how a study's runs differ from what is asked for, and what to do."""
        found = list(dict.fromkeys(reason for record in stale for reason in self.reasons(record)))
        return (
            f"{self.store.folder}: holds {len(stale)} run(s) made under something else: {'; '.join(found)}. "
            "Choose another study (--study NAME), or set those runs aside and run them again (--replace-stale)"
        )

    def _other_code(self, record: Record) -> list[str]:
        job = self.asked.get((record.train, record.model, record.repeat))
        if job is None or job.key_parts.model == record.key_parts.model:
            return []
        now, then = registry.code_digests(job.entry), record.environment.get("network_code")
        if not isinstance(then, dict):  # of an earlier release, or a failed run
            return [f"the code of {record.model}" + (f" ({', '.join(now)})" if now else "")]
        changed = [name for name in sorted({*now, *then}) if now.get(name) != then.get(name)]
        return [f"the code of {record.model}, changed in {', '.join(changed)}"]

    def _other_start(self, record: Record) -> list[str]:
        job = self.asked.get((record.train, record.model, record.repeat))
        init = job.init.facts if job and job.init else None
        expected = record.key_parts.init if job is None else job.key_parts.init
        if record.key_parts.init == expected and (record.key_parts.init is not None) == self.fine_tuned:
            return []
        ours = _origin(init) if init or not self.fine_tuned else "those of another study"
        return [f"the weights that runs start from: {_origin(record.init)} -> {ours}"]

    def _differences(self) -> list[str]:
        if self._settings is None:
            old = self.store.read_protocol()
            self._settings = (protocols.differences(old, self.protocol) if old else []) or ["the protocol"]
        return self._settings


def _origin(init: Initial | None) -> str:
    return "random ones" if init is None else f"{init.study}, {'+'.join(init.train)} ({init.sha256[:8]})"
