"""Runs in a study's folder that were made under something else than what is asked for now: what that was."""

from __future__ import annotations

from collections.abc import Sequence

from benchmark import BEHAVIOUR
from benchmark import protocol as protocols
from benchmark.data.tasks import Task
from benchmark.protocol import Protocol
from benchmark.records import Record
from benchmark.store import Store


class Staleness:
    """Compares records with what is asked for now."""

    def __init__(self, store: Store, protocol: Protocol, tasks: Sequence[Task]) -> None:
        """Keep what is asked for.

        Args:
            store: the study.
            protocol: all settings.
            tasks: the datasets.
        """
        self.store, self.protocol = store, protocol
        self._digest = protocol.digest()
        self._tasks = {task.train_names: task for task in tasks}
        self._settings: list[str] | None = None

    def has_other_settings(self, record: Record) -> bool:
        """Tell whether a run was made under another protocol or by a harness with other behaviour."""
        return (record.key_parts.protocol, record.key_parts.behaviour) != (self._digest, BEHAVIOUR)

    def reasons(self, record: Record) -> list[str]:
        """Say in what a stale run differs from what is asked for now."""
        reasons = []
        if record.key_parts.protocol != self._digest:
            reasons += self._differences()
        if record.key_parts.behaviour != BEHAVIOUR:
            reasons.append(f"the harness's behaviour number: {record.key_parts.behaviour} -> {BEHAVIOUR}")
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

    def _differences(self) -> list[str]:
        if self._settings is None:
            old = self.store.read_protocol()
            self._settings = (protocols.differences(old, self.protocol) if old else []) or ["the protocol"]
        return self._settings
