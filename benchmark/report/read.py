"""Reads a study's protocol, runs, reference rows and efficiency measurements into memory."""

from __future__ import annotations

import functools
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from benchmark import BEHAVIOUR
from benchmark.config.execution import WORDS
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import dataset_of
from benchmark.efficiency.hindrance import hindrances
from benchmark.records.asked_runs import AskedRuns, UnfinishedRun, unfinished_runs
from benchmark.records.efficiency_record import EfficiencyRecord, Limits
from benchmark.records.ensemble_record import EnsembleRecord
from benchmark.records.own_networks import read_networks
from benchmark.records.packed_study import read_stored, stored_files
from benchmark.records.run_record import Record
from benchmark.records.schema import Filed, fault
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.records.store import RECORD_BYTES, Broken, Store
from benchmark.records.stress_record import StressRecord
from benchmark.report.contradictions import stranger
from benchmark.report.scores import ImageCounts, Scores, read_counts, read_scores
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

F = TypeVar("F", bound=Filed)
L = TypeVar("L", StressRecord, EnsembleRecord)


@dataclass(frozen=True)
class Run:
    """A record and what its test datasets' counts become; ``folder`` is where both were read from."""

    record: Record
    scores: Mapping[str, Scores]
    folder: Path | None = None


@dataclass(frozen=True)
class Stressed:
    """A test of a run's network under a stress, or on images as drawn."""

    record: StressRecord
    scores: Scores


@dataclass(frozen=True)
class EnsembleTest:
    """A test of the mean of a network's repeats."""

    record: EnsembleRecord
    scores: Scores


@dataclass(frozen=True, order=True)
class Setting:
    """Conditions that efficiency figures of one column share, as printed; blank if one does not apply."""

    height: int
    width: int
    channels: int
    device: str
    dtype: str
    threads: int
    precision: str
    memory_format: str
    compile_mode: str
    torch: str
    replay: str = ""
    freed_memory: str = ""
    layers: int = 0  # logits of a network of several layers

    @classmethod
    def of(cls, record: EfficiencyRecord) -> Setting:
        """Read the setting of a measurement."""
        tensor_cores = record.device == "cuda" and record.dtype == "float32"  # only there may TF32 stand in
        return cls(
            *(record.height, record.width, record.in_channels, record.device_name, record.dtype, record.threads),
            precision=record.float32_precision if tensor_cores else "",
            memory_format=record.settings.memory_format,
            compile_mode=record.settings.compile_mode or "",
            torch=record.torch,
            replay=WORDS["graph"] if record.settings.cuda_graph else "",
            freed_memory=record.freed_memory or "",
            layers=record.classes if record.classes > 1 else 0,
        )

    @property
    def facts(self) -> dict[str, str | int]:
        """Conditions in the words of tables; those that earlier releases did not know only if they apply."""
        later = ("replay", "freed_memory", "layers")
        facts = {name: value for name, value in asdict(self).items() if value or name not in later}
        return {**facts, "batch": 1}

    @property
    def remainder(self) -> str:
        """Sentence below a table about conditions that its title leaves out."""
        kept = f"timed with freed memory {self.freed_memory} for its next use" if self.freed_memory else ""
        return "; ".join(filter(None, (f"Input channels: {self.channels}", f"torch {self.torch}", kept))) + "."

    @property
    def form(self) -> tuple[str, str]:
        """Optimisations of the forward; blank, and so first in order, for a network as it is written."""
        return self.replay, self.compile_mode

    @property
    def size(self) -> str:
        """The input's height and width."""
        return f"{self.height}×{self.width}"

    @property
    def key(self) -> str:
        """Names a block of figures in this setting."""
        return "-".join(str(value) for value in asdict(self).values() if value)

    @property
    def pixels(self) -> int:
        """The input's area."""
        return self.height * self.width

    def describe(self) -> str:
        """Return the device and how it computed, in words."""
        threads = counted(self.threads, "thread")
        layout = "" if self.memory_format == "contiguous" else self.memory_format
        compiled = f"torch.compile {self.compile_mode}" if self.compile_mode else ""
        layers = counted(self.layers, "layer") if self.layers else ""
        parts = (self.device, self.dtype, "batch 1", threads, layout, compiled, self.replay, layers)
        return ", ".join(filter(None, parts))


@dataclass(frozen=True)
class Measurement:
    """One network's efficiency figures in one setting.

    Attributes:
        record: the file.
        setting: what it shares with figures that it may be compared with.
        figures: those that were measured.
        warnings: the record's, and what only the study's other measurements tell.
        hindered: whether something else had the device, so that its times tell of that too and are not compared.
    """

    record: EfficiencyRecord
    setting: Setting
    figures: Mapping[str, float]
    warnings: tuple[str, ...]
    hindered: bool = False

    @classmethod
    def of(cls, record: EfficiencyRecord) -> Measurement:
        """Flatten a record; keys carry their unit where the figure has one."""
        latency, memory, throughput = record.latency, record.memory, record.throughput
        figures: dict[str, float | None] = {
            "params": record.params, "unused_params": sum(record.unused_params.values()),
            "macs": record.macs, "flops": record.flops, "bytes_moved": record.bytes_moved,
            "latency_p50_ms": latency.p50_ms, "latency_p90_ms": latency.p90_ms, "latency_p99_ms": latency.p99_ms,
            "fps": latency.fps, "energy_j_per_image": record.energy_j_per_image,
        }  # fmt: skip
        if throughput:
            figures["images_per_second"] = throughput.images_per_second
            figures["images_per_second_batch"] = throughput.batch
            figures["energy_j_per_image_batch"] = throughput.energy_j_per_image
        if memory:
            figures["forward_peak_bytes"] = memory.forward_peak_bytes
            figures["train_step_peak_bytes"] = memory.train_step_peak_bytes
        measured = {key: value for key, value in figures.items() if value is not None}
        slow = f"{'; '.join(record.hindered)}: something else had the device (tries: {record.tries})"
        warnings = ((slow,) if record.hindered else ()) + record.warnings
        return cls(record, Setting.of(record), measured, warnings, bool(record.hindered))


@dataclass(frozen=True, eq=False)
class StudyResults:
    """Everything that a report is made of.

    Attributes:
        protocol: the resolved protocol; ``None`` for a study that only measured efficiency.
        references: test dataset -> method without training -> its scores, once per division of the images: there are
            several with folds, and where studies of several seeds were merged.
        broken: runs left out, since their records cannot be read.
        comparisons: of the plain way with the harness's, made by ``bench``.
        origin: sentences that say which studies it was merged from; none for a single one.
        sources: names of these studies.
        stressed: stress tests of the runs' networks.
        broken_stress: why others are left out, each with its file; no such file means anything to the rest.
        ensembles: tests of the mean of a network's repeats.
        broken_ensembles: why others are left out, each with its file.
        asked_ensembles: training set and model of those that the last command asked for.
        networks: users' networks, as far as the study knows more of them than their names.
        strangers: files of methods without training that are left out, since they are not of the runs' images; why.
        unfinished: runs that are under way or not begun.
    """

    protocol: Protocol | None
    runs: tuple[Run, ...]
    references: Mapping[str, Mapping[str, tuple[Scores, ...]]]
    efficiency: tuple[Measurement, ...]
    broken: tuple[Broken, ...] = ()
    comparisons: tuple[SpeedupComparison, ...] = ()
    origin: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    stressed: tuple[Stressed, ...] = ()
    broken_stress: tuple[str, ...] = ()
    ensembles: tuple[EnsembleTest, ...] = ()
    broken_ensembles: tuple[str, ...] = ()
    asked_ensembles: Set[tuple[tuple[str, ...], str]] = frozenset()
    strangers: tuple[str, ...] = ()
    unfinished: tuple[UnfinishedRun, ...] = ()
    networks: Mapping[str, ModelEntry] = field(default_factory=dict)

    def scores_of(self, train: str, test: str) -> dict[str, dict[int, Scores]]:
        """Return model -> repeat -> counts on a test dataset, of finished runs; ``train`` joins datasets by ``+``."""
        scores: dict[str, dict[int, Scores]] = defaultdict(dict)
        for run in self.runs:
            if "+".join(run.record.train) == train and test in run.scores:
                scores[run.record.model][run.record.repeat] = run.scores[test]
        return dict(scores)

    def ensemble_of(self, train: str, model: str, test: str) -> EnsembleTest | None:
        """Return the test of a network's ensemble on a dataset, the one of the most repeats; ``None`` without one."""
        named = (tested for tested in self.ensembles if (tested.record.model, tested.record.test) == (model, test))
        trained = [tested for tested in named if "+".join(tested.record.train) == train]
        return max(trained, key=lambda tested: len(tested.record.members), default=None)

    def measured_for(self, dataset: str) -> list[Measurement]:
        """Return the efficiency figures at a dataset's input size and channels, of networks of its layers."""
        if self.protocol is None:
            return []
        settings, name = self.protocol.input, dataset_of(dataset)
        shape = f"{settings.size_for(name)}×{settings.size_for(name)}", settings.channels_for(name)
        tests = {test for run in self.runs for test in run.record.test if dataset_of(test) == name}
        fitting = [found for found in self.efficiency if (found.setting.size, found.setting.channels) == shape]
        return [found for found in fitting if max(1, found.setting.layers) == max(1, len(tests))]


def comparable(measured: Sequence[Measurement], models: Set[str]) -> list[Measurement]:
    """Keep the measurements of one setting, the one that covers most of the models; of equals, plain forwards."""
    settings = sorted({measurement.setting for measurement in measured}, key=lambda setting: (setting.form, setting))
    groups = [[measurement for measurement in measured if measurement.setting == setting] for setting in settings]
    return max(groups, key=lambda group: len(models & {measurement.record.model for measurement in group}), default=[])


def with_hindrances(measured: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Mark figures that were taken while the device was far below what it reached at other times of the study.

    A virtual machine's neighbours, whom its load average does not show, slow products and copies as they slow networks.
    """
    reached: dict[Hashable, list[Limits]] = defaultdict(list)
    for measurement in measured:
        reached[_device(measurement)] += filter(None, (measurement.record.limits, measurement.record.limits_after))
    marked = []
    for measurement in measured:
        slow = hindrances(
            None, measurement.record.limits, measurement.record.limits_after, reached[_device(measurement)]
        )
        if slow and not measurement.hindered:
            warning = f"{' and '.join(slow)}: something else may have had the device"
            measurement = replace(measurement, warnings=(warning, *measurement.warnings), hindered=True)
        marked.append(measurement)
    return tuple(marked)


def _device(measurement: Measurement) -> Hashable:
    """Return what measurements share whose rates can be compared; older files do not tell machines of a kind apart."""
    # Neither rate depends on the network's input.
    return replace(
        measurement.setting, height=0, width=0, channels=0, layers=0
    ), measurement.record.origin and measurement.record.origin.machine


def read_study(folder: Path, tell: Callable[[str], None] = lambda sentence: None) -> StudyResults:
    """Read a study.

    Args:
        folder: ``results/<study>``.
        tell: called with a sentence for each run that is left out.

    Raises:
        UserError: no study there, or a file in it, other than a record, that is broken or missing; names the file.
    """
    store = Store(folder)
    protocol = store.read_protocol()
    figures = stored_files(folder, "efficiency/[!.]*.json")
    efficiency = with_hindrances([Measurement.of(_filed(EfficiencyRecord, file)) for file in figures])
    comparisons = tuple(_filed(SpeedupComparison, file) for file in stored_files(folder, "bench/[!.]*.json"))
    if protocol is None:
        if not efficiency and not comparisons:
            if (folder / "report").is_dir():
                raise UserError(f"{folder}: holds no runs, only the report of other studies; name these instead")
            raise UserError(f"{store.protocol_file}: no such file; expected a folder that `benchmark run` made")
        return StudyResults(None, (), {}, efficiency, comparisons=comparisons, networks=read_networks(folder))
    records, broken = store.survey()
    for run in broken:
        tell(f"{run.reason}; left out of the report")
    unfinished = unfinished_runs(folder, records, [run.folder for run in broken])
    running = {store.run_folder(run.train, run.model, run.repeat) for run in unfinished}
    runs = _runs([(path, record) for path, record in records if path not in running])
    rows: dict[str, dict[str, tuple[Scores, ...]]] = {}
    strangers = []
    earlier = next((run.record.key_parts.behaviour for run in runs), BEHAVIOUR)  # of rows that do not say it
    tests_of = functools.cache(lambda dataset: _tests_of_folds(store, protocol, runs, dataset))
    for file in stored_files(folder, "references/[!.]*.csv"):
        dataset, _, method = file.stem.rpartition(".")
        shared = store.shared(dataset_of(dataset))
        scores = read_scores(file, shared.behaviour if shared else earlier)
        divisions = [(runs, scores)] if not protocol.split.folds else _by_fold(scores, runs, tests_of(dataset))
        reasons = [stranger(store, protocol, of_division, dataset, part) for of_division, part in divisions]
        if not divisions:
            reasons = ["the lists of its folds in splits/ are missing or name other images"]
        if reason := next(filter(None, reasons), ""):
            strangers.append(f"references/{file.name} ({reason})")
        else:
            rows.setdefault(dataset, {})[method] = tuple(part for _, part in divisions)
    stressed, broken_stress = _later_tests(store, StressRecord, runs)
    ensembles, broken_ensembles = _later_tests(store, EnsembleRecord, runs)
    asked = AskedRuns.read(folder)
    results = StudyResults(protocol, runs, rows, efficiency, tuple(broken), comparisons)
    return replace(
        results,
        stressed=tuple(Stressed(*test) for test in stressed),
        broken_stress=broken_stress,
        ensembles=tuple(EnsembleTest(*test) for test in ensembles),
        broken_ensembles=broken_ensembles,
        asked_ensembles=asked.of_ensembles if asked else frozenset(),
        strangers=tuple(strangers),
        unfinished=tuple(unfinished),
        networks=read_networks(folder),
    )


def _tests_of_folds(store: Store, protocol: Protocol, runs: Sequence[Run], test: str) -> dict[int, frozenset[str]]:
    """Return the test images of each fold that a finished run was tested on or, without one, that is asked for."""
    tested = {run.record.repeat for run in runs if test in run.scores} or range(protocol.repeats)
    return {fold: frozenset(store.read_split(dataset_of(test), fold).get("test", ())) for fold in sorted(tested)}


def _by_fold(
    scores: Scores, runs: Sequence[Run], tests: Mapping[int, Set[str]]
) -> list[tuple[tuple[Run, ...], Scores]]:
    """Divide the scores of all images into those of each fold, with its runs; empty if a fold's images are unknown."""
    parts = {fold: scores.among(names) for fold, names in tests.items()}
    whole = {fold: part for fold, part in parts.items() if part is not None}
    by_fold = [(tuple(run for run in runs if run.record.repeat == fold), part) for fold, part in whole.items()]
    return by_fold if len(whole) == len(parts) else []


def _filed(kind: type[F], file: Path) -> F:
    try:
        return kind.from_json(read_stored(file, RECORD_BYTES))
    except (OSError, ValidationError) as error:
        raise UserError(
            f"{file}: not valid figures of a measurement ({fault(error)}); delete it and measure again"
        ) from error


def _runs(records: Sequence[tuple[Path, Record]]) -> tuple[Run, ...]:
    counts: list[dict[str, ImageCounts]] = []
    for folder, record in records:
        # A finished run has figures for a dataset unless the dataset has no test images.
        tested = [test for test in record.test if test in record.metrics] if record.status == "ok" else []
        behaviour = record.key_parts.behaviour
        counts.append({test: read_counts(folder / f"images.{test}.csv", behaviour) for test in tested})
    scores = iter(Scores.of(list(itertools.chain.from_iterable(tests.values() for tests in counts))))
    return tuple(
        Run(record, {test: next(scores) for test in tests}, folder)
        for (folder, record), tests in zip(records, counts, strict=True)
    )


def _later_tests(store: Store, kind: type[L], runs: Sequence[Run]) -> tuple[list[tuple[L, Scores]], tuple[str, ...]]:
    """Return the tests of networks of finished runs as they are now, and why others cannot be read."""
    keys = {(run.record.train, run.record.model, run.record.repeat): run.record.key for run in runs if run.scores}
    tests, broken = [], []
    for file in stored_files(store.folder, f"{kind.kind}/[!.]*/*/*/[!.]*.json"):
        try:
            record = kind.from_json(read_stored(file, RECORD_BYTES))
            if file != store.test_file(record):
                raise UserError(f"{file}: is the record of another test, {record.stem}")
            if all(keys.get((record.train, record.model, repeat)) == key for repeat, key in record.runs):
                tests.append((record, read_scores(file.with_suffix(".csv"), record.behaviour)))
        except UserError as error:
            broken.append(str(error))
        except (OSError, ValidationError) as error:
            broken.append(f"{file}: not a valid record of a test ({fault(error)}); remove it and test again")
    return tests, tuple(broken)
