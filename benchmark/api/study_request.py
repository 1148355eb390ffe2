"""Turns the wishes of a user into a study, its plan and its executor."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tomli_w
from pydantic import Field, TypeAdapter, ValidationError

from benchmark.config import registry, unused_settings
from benchmark.config.execution import Execution
from benchmark.config.protocol import load_protocol
from benchmark.data import specs
from benchmark.data.datasets import choose, names_of_all, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.stressed import Stresses
from benchmark.data.tasks import DatasetFlags, arrange
from benchmark.devices.hardware_slots import hardware_of, hardware_of_node
from benchmark.executors.choice import Engine, ExecutorChoice, choose_executor
from benchmark.executors.events import Event
from benchmark.executors.worker import Worker
from benchmark.records.method import check_method
from benchmark.records.packed_study import model_folders
from benchmark.records.user_folders import DATA_ROOT, check_data_root, study_folder
from benchmark.runs.jobs import KeepWeights
from benchmark.study.execute import execute
from benchmark.study.plan import Plan, make_plan
from benchmark.study.study import Study
from benchmark.training.finetune import start_of
from benchmark.training.trackers import TrackerName
from benchmark.utils.errors import UserError, require

#: Fields that tell what to do now and with which machine.
OF_ONE_CALL = {
    *("device", "threads", "workers", "per_gpu", "executor", "ray_address", "slurm", "timeout", "cache"),
    *("retry_failed", "replace_stale", "fail_fast"),
}
Positive = Annotated[int, Field(ge=1)]
PATIENCE_S = 12 * 3600  # a study that takes a CPU longer is most likely not meant


@dataclass(frozen=True)
class StudyRequest:
    """A study as a user asks for it, by flags or by arguments; :func:`benchmark.run` explains the fields."""

    models: str = "all"
    datasets: str = "all"
    protocol: str = "paper"
    train: str | None = None
    test: str | None = None
    leave_one_out: bool = False
    repeats: Positive | None = None
    settings: tuple[str, ...] = ()  # path=value
    study: str | None = None
    reference: str | None = None
    results: Path = Path("results")
    data_root: Path = DATA_ROOT
    cache: Path | None = None
    device: str = "auto"
    threads: Positive | None = None
    workers: Positive | None = None
    per_gpu: Positive = 1
    executor: Engine = "local"
    ray_address: str | None = None
    slurm: str | None = None
    execution: Execution = "eager"
    timeout: Annotated[float, Field(ge=1)] | None = None
    init_from: str | None = None
    ensembles: bool = False
    stress: str | None = None
    strength: str | None = None
    keep_weights: KeepWeights = "best-repeat"
    tracker: TrackerName | None = None
    real_only: bool = False
    retry_failed: bool = False
    replace_stale: bool = False
    fail_fast: bool = False

    @classmethod
    def of(cls, **fields: Any) -> StudyRequest:
        """Check the fields, whose values no command line has checked.

        Raises:
            UserError: a value that the flag of the same name refuses.
        """
        try:
            return TypeAdapter(cls).validate_python(fields)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            name, *_ = problem["loc"]
            expected = problem["msg"].removeprefix("Input should be ")
            raise UserError(f"{name}: found {problem['input']!r}; expected {expected}") from error

    def toml(self) -> str:
        """Return a file for ``run --config`` that asks for the same study from the same working folder.

        Absolute paths become relative to that folder, as in other files of a study.
        """
        asked: dict[str, object] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value != field.default and field.name not in OF_ONE_CALL:
                asked[field.name] = _relative(str(value)) if isinstance(value, str | Path) else value
        if self.settings:
            settings = (setting.partition("=")[::2] for setting in self.settings)
            asked["settings"] = {path: _relative(value) for path, value in settings}
        return tomli_w.dumps(asked)

    def plan(self, *, refuse: bool = True) -> PlannedStudy:
        """Look at data, settings and earlier runs, and say what is left to do; nothing is written.

        Args:
            refuse: stop where the plan is impossible; else its ``refusal`` says why.

        Raises:
            UserError: a field names something that is not there, or fields do not fit each other.
        """
        if self.tracker is not None:
            require(self.tracker, flag=f"--tracker {self.tracker}", extra="trackers")
        stresses = Stresses.parse(self.stress, self.strength)
        engine = choose_executor(
            self.executor,
            slurm=self.slurm,
            address=self.ray_address,
            workers=self.workers,
            per_gpu=self.per_gpu,
            timeout_s=self.timeout,
        )
        repeats = [f"repeats={self.repeats}"] if self.repeats is not None else []
        overrides = [*self.settings, *repeats]
        protocol = load_protocol(self.protocol, overrides)
        folder = study_folder(self.results, self.study or protocol.name)
        hardware = (
            hardware_of_node(self.device, self.threads, self.executor)
            if engine.remote
            else hardware_of(self.device, self.threads)
        )
        selection = DatasetFlags(self.datasets, self.train, self.test, self.leave_one_out)
        check_data_root(self.data_root)
        entries = registry.select(self.models)
        reference = self.reference
        if reference is not None:
            earlier = [path.name for path in model_folders(folder)]
            try:
                reference = check_method(reference, dict.fromkeys([*(entry.name for entry in entries), *earlier]))
            except UserError:
                for entry in entries:  # a misspelt class is a network of another name: that is the fault to tell
                    if entry.family == "user":
                        entry.load()
                raise
        protocol = specs.fit(protocol, list(choose(selection.names, self.data_root).values()))
        cache = self.cache or self.data_root / ".cache"
        hashes = HashCache(cache / "hashes.json")
        tasks = arrange(
            lambda names: resolve(names, self.data_root, protocol, hashes, real_only=self.real_only),
            datasets=self.datasets,
            train=self.train,
            test=self.test,
            leave_one_out=self.leave_one_out,
        )
        largest = max(protocol.input.size_for(source.name) for task in tasks for source in task.sources)
        hardware = hardware.with_slots(workers=self.workers, per_gpu=self.per_gpu, input_size=largest)
        keep_weights = "all" if self.ensembles and self.keep_weights == "best-repeat" else self.keep_weights
        study = Study(
            *(folder, protocol, entries, tasks, hardware, cache, keep_weights, self.fail_fast),
            execution=self.execution,
            tracker=self.tracker,
            stress=stresses,
            ensembles=self.ensembles,
            reference=reference,
            command=self.toml(),
        )
        targets = {source.base: source.target for source in study.sources}
        divided = all(source.pairs and all(pair.split for pair in source.pairs) for source in study.sources)
        known, stored = names_of_all(self.data_root), study.store.read_protocol()
        unused_settings.refuse_for(targets, protocol, overrides, known, stored, divided=divided)
        unused_settings.refuse_for_networks({entry.name for entry in entries}, protocol, overrides)
        if self.init_from is not None:
            study.start = start_of(self.init_from, self.results, folder, [entry.name for entry in entries])
        plan = make_plan(study, retry_failed=self.retry_failed, replace_stale=self.replace_stale, refuse=refuse)
        return PlannedStudy(study, plan, engine)


def settings_of(table: Mapping[str, Any], group: str = "") -> Iterator[str]:
    """Yield ``path=value`` for each setting of a table and its tables, as ``--set`` takes it."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from settings_of(value, f"{group}{name}.")
        else:
            yield f"{group}{name}={_setting(value)}"


def _setting(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_setting, value))}]"
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _relative(text: str) -> str:
    return ",".join(os.path.relpath(part) if os.path.isabs(part) else part for part in text.split(","))


@dataclass(frozen=True)
class PlannedStudy:
    """A study, the plan of what is left to do, and the choice of who does it."""

    study: Study
    plan: Plan
    engine: ExecutorChoice

    @property
    def takes_too_long(self) -> bool:
        """Whether this machine's CPU would need more than half a day, which is most likely not meant."""
        return self.study.hardware.kind == "cpu" and not self.engine.remote and self.plan.seconds > PATIENCE_S

    def execute(self, watch: Callable[[Event], None], worker: Worker | None = None) -> None:
        """Do what is left; a failed run is a record.

        Args:
            watch: called with all events in order.
            worker: a process that was started ahead.
        """
        executor = self.engine.executor(self.study.hardware, self.study.folder, worker)
        execute(self.study, self.plan, executor, watch)
