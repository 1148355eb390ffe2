"""Describes the origin of the page's numbers: environments, failed runs, commands, citations."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from benchmark.config import registry
from benchmark.config.protocol import PRESETS, Protocol, flatten_settings, load_protocol, protocol_differences
from benchmark.config.targets import dataset_of
from benchmark.data.specs import KNOWN, known_first
from benchmark.records.environment import PACKAGES
from benchmark.records.method import METHOD
from benchmark.records.run_record import Record
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import in_order
from benchmark.utils import logs

#: Values of one fact, and runs without numbers, that the page lists.
VALUES, FAILURES = 6, 200
VALUE_CHARACTERS = 200

#: The facts of an environment that the page shows, and no others, with their names for readers.
FACTS: Mapping[str, str] = {
    "code.version": "Version of this benchmark",
    "code.commit": "Commit",
    "code.dirty": "Changed since the commit",
    "code.content": "Hash of its sources",
    "gpu": "GPU",
    "gpu_memory_bytes": "GPU memory",
    "driver": "NVIDIA driver",
    "cuda": "CUDA",
    "cudnn": "cuDNN",
    "float32_precision": "float32 kernels of the GPU",
    "cpu": "CPU",
    "cpu_capability": "CPU kernels",
    "cpu_cores": "CPU cores",
    "memory_bytes": "Memory",
    "device": "Device of a run",
    "threads": "Threads of a run",
    "compute_dtype": "Number format",
    "execution": "Execution",
    "execution_reason": "Why it is eager",
    "determinism": "Determinism",
    "nondeterministic_operations": "Operations that may not repeat",
    "os": "System",
    "python": "Python",
    **{f"packages.{name}": name for name in PACKAGES},
    "package_list": "Hash of all packages",
}


@dataclass(frozen=True)
class Fact:
    """One property of the environments.

    Attributes:
        values: (value, environments that have it), the most frequent first.
        more: values that are not listed.
    """

    name: str
    values: tuple[tuple[str, int], ...]
    more: int


@dataclass(frozen=True)
class Lost:
    """A run without numbers."""

    run: str
    kind: str
    message: str
    log: str


def environments(study: StudyResults) -> dict[str, list[Fact]]:
    """Return hardware and software of runs and of comparisons with the plain way, by the noun for one of them."""
    described = {
        "run": facts(run.record.environment for run in study.runs),
        "comparison": facts(comparison.environment for comparison in study.comparisons),
    }
    return {name: listed for name, listed in described.items() if listed}


def facts(described: Iterable[Mapping[str, Any]]) -> list[Fact]:
    """Collect the facts of environments, each with its values."""
    counts: dict[str, Counter[str]] = {key: Counter() for key in FACTS}
    for environment in described:
        for key, value in flatten_settings(environment).items():
            if key in counts and value not in (None, [], ""):
                counts[key][_readable(key, value)] += 1
    listed = {key: sorted(counted.items(), key=lambda item: (-item[1], item[0])) for key, counted in counts.items()}
    return [
        Fact(FACTS[key], tuple(values[:VALUES]), max(len(values) - VALUES, 0))
        for key, values in listed.items()
        if values
    ]


def _readable(key: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key.endswith("_bytes") and isinstance(value, int):
        return f"{value / 2**30:.1f} GiB"
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return logs.without_folders(text)[:VALUE_CHARACTERS]


def lost(study: StudyResults) -> tuple[list[Lost], int]:
    """Return the runs that failed or were interrupted, and the number of those that the list has no room for."""
    records = [run.record for run in study.runs if run.record.status != "ok"]
    listed = [
        Lost(record.label, failure.kind, failure.message, failure.log)
        if (failure := record.failure)
        else Lost(record.label, record.status, "goes on from its last checkpoint with the same command", "")
        for record in records[:FAILURES]
    ]
    return listed, len(records) - len(listed)


def settings(protocol: Protocol, ignored: Set[str] = frozenset()) -> list[str]:
    """List the settings, without ignored ones, in which a protocol differs from the preset of its name."""
    if protocol.name not in PRESETS:
        return []
    differing = protocol_differences(load_protocol(protocol.name), protocol, ignored={"report", *ignored})
    return list(map(logs.without_folders, differing))


def commands(study: StudyResults, name: str, reference: str = METHOD) -> list[str]:
    """Return command lines that repeat the whole study beside itself, compare both, and repeat one run exactly.

    Several studies that are reported as one are merged again.

    Args:
        study: with runs.
        name: of its folder below ``results``.
        reference: the model that the others are compared with.
    """
    compared = [] if reference == METHOD else ["--reference", reference]
    if study.protocol is None or not study.runs:
        return []
    if study.sources:  # their own pages say how each was run
        return [shlex.join(["python", "-m", "benchmark", "report", *study.sources, *compared])]
    again = f"{name}-again"
    # A preset by its name; other settings by the study's own file.
    preset = study.protocol.name in PRESETS and not settings(study.protocol)
    protocol = study.protocol.name if preset else f"results/{name}/protocol.toml"
    records = sorted((run.record for run in study.runs), key=_order)
    settled = ["--protocol", protocol, "--study", again, *_initial(records), *compared]
    calls = [["run", "--models", _models(records, study.networks), *data, *settled] for data in _datasets(records)]
    calls.append(["diff", name, again])
    finished = next((record for record in records if record.status == "ok"), None)
    if finished is not None:
        calls.append(["run", "--reproduce", f"results/{name}/runs/{finished.label}/record.json"])
    return [shlex.join(["python", "-m", "benchmark", *words]) for words in calls]


def _order(record: Record) -> tuple[list[tuple[int, str]], tuple[int, str], int]:
    """Return a run's sort key: datasets, model, repeat."""
    datasets = [known_first(name, KNOWN) for name in record.train]
    return datasets, known_first(record.model, registry.BUILTIN), record.repeat


def _models(records: Sequence[Record], own: Mapping[str, registry.ModelEntry]) -> str:
    names = in_order({record.model for record in records})
    everything = [entry.name for entry in registry.select("all")]
    if sorted(names) == sorted(everything):
        return "all"
    return ",".join(name if registry.find(name) else f"path/to/file.py:{_class(name, own)}" for name in names)


def _class(name: str, own: Mapping[str, registry.ModelEntry]) -> str:
    """Return the class of a user's network, without its file, whose name may tell what nobody shall know."""
    return own[name].target.rpartition(":")[2] if name in own else name


def _datasets(records: Sequence[Record]) -> Iterator[list[str]]:
    """Yield the flags that name training and test datasets, for one call each."""
    tests = {record.train: tuple(dict.fromkeys(map(dataset_of, record.test))) for record in records}
    calls: dict[tuple[str, ...] | None, list[str]] = {}
    for train, test in tests.items():
        if len(train) == 1:
            calls.setdefault(None if train == test else test, []).append(train[0])
    for tested, names in calls.items():
        yield ["--datasets", ",".join(names), *(["--test", ",".join(tested)] if tested else [])]
    for train, test in tests.items():
        if len(train) > 1:
            yield ["--train", ",".join(train), "--test", ",".join(test)]


def _initial(records: Sequence[Record]) -> list[str]:
    starts = sorted({record.init.flag for record in records if record.init})
    return ["--init-from", starts[0]] if len(starts) == 1 else []


def software(study: StudyResults) -> str:
    """Return a BibTeX entry of this benchmark with the versions that made the runs."""
    environments = [run.record.environment for run in study.runs]
    environments += [comparison.environment for comparison in study.comparisons]
    codes = [environment.get("code") for environment in environments]
    known = [code for code in codes if isinstance(code, Mapping)]
    versions = sorted({str(code["version"]) for code in known if code.get("version")})
    commits = sorted({str(code["commit"])[:12] for code in known if code.get("commit")})
    fields = {
        "title": "{EAL-ICNet} benchmark: segmentation of integrated-circuit images under one protocol",
        "version": ", ".join(versions),
        "note": f"Commit {', '.join(commits)}" if commits else "",
    }
    lines = ",\n".join(f"  {key} = {{{value}}}" for key, value in fields.items() if value)
    return f"@software{{ealicnetbenchmark,\n{lines}\n}}\n"
