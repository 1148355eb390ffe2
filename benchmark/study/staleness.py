"""Finds runs of a study that were made under other settings, data or code, and replaces them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmark import BEHAVIOUR
from benchmark.config import protocol as protocols
from benchmark.config import registry
from benchmark.config.protocol import Protocol
from benchmark.data.tasks import Task
from benchmark.records import claims
from benchmark.records.run_record import Initial, Record
from benchmark.records.store import Store
from benchmark.runs.jobs import TrainJob
from benchmark.utils.errors import UserError

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
        """Say how what a study holds differs from what is asked for, and what to do; blank where nothing differs.

        Args:
            stale: the runs that differ.
        """
        held = [f"{len(stale)} run(s)"] if stale else []
        reasons = list(dict.fromkeys(reason for record in stale for reason in self.reasons(record)))
        if not stale and self._differs(self.store.read_protocol()):
            held, reasons = self.store.remains(), self._differences()
        if not held:
            return ""
        return (
            f"{self.store.folder}: holds {', '.join(held)} made under something else: {'; '.join(reasons)}. "
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

    def agree(self, seen: Protocol | None, stale: Sequence[Record], *, replace: bool) -> None:
        """Write the protocol as the study's own, and set aside what was made under another; needs the study's claim.

        A run reads the protocol after it has claimed its own folder. So of a run and a call that replaces the protocol
        at the same moment, at least one sees the other.

        Args:
            seen: the study's protocol when this call was planned.
            stale: runs to set aside.
            replace: whether what was made under another protocol may be set aside.

        Raises:
            UserError: another call has begun the study under other settings, or is at work under them.
        """
        found = self.store.read_protocol()
        differs = self._differs(found)
        self._settings = None
        if differs and found != seen:
            raise UserError(
                f"{self.store.folder}: another call has begun this study meanwhile under other settings: "
                f"{'; '.join(self._differences())}. Choose another study (--study NAME)"
            )
        if differs and not replace and (refusal := self.explain(())):
            raise UserError(refusal)
        self._refuse_claimed(stale, everything=differs)
        self.store.write_protocol(self.protocol)
        if found is not None and differs:
            try:
                self._refuse_claimed(stale, everything=True)
            except UserError:
                self.store.write_protocol(found)
                raise
        for record in stale:
            self.store.set_aside(record.train, record.model, record.repeat)
        if differs:
            self.store.clear()

    def _refuse_claimed(self, stale: Sequence[Record], *, everything: bool) -> None:
        folders: Iterable[Path] = (self.store.run_folder(record.train, record.model, record.repeat) for record in stale)
        for folder in self.store.claimed() if everything else folders:
            if claims.holder(folder) is not None:
                train, model, repeat = folder.parts[-3:]
                raise UserError(
                    f"--replace-stale: another process is doing {train} {model} repeat {repeat} under the earlier "
                    "settings; wait for it or stop it"
                )

    def _differs(self, found: Protocol | None) -> bool:
        return found is not None and found.digest() != self._digest

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
