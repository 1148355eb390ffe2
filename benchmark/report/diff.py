"""Finds the differences of two studies: settings, data, code, environment, runs and numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmark import metrics
from benchmark.config.protocol import Protocol, flatten_settings, protocol_differences
from benchmark.data.specs import known_first
from benchmark.records.environment import PACKAGES
from benchmark.records.run_record import Record
from benchmark.records.store import Store
from benchmark.utils.errors import UserError
from benchmark.utils.names import distinct_names
from benchmark.utils.words import counted

#: Columns of the table of numbers, each as :mod:`benchmark.report.tables.accuracy_table` takes it over images.
ACCURACY = ("miou", "mpa", "dice", "aji")
POOLED = ("net_error_rate", "net_f1", "via_f1")
PACKAGE = "packages."
#: Packages, apart from those that a record names itself, that are listed; more are counted.
LISTED_PACKAGES = 10
MISSING = "-"

TESTED, NETWORK, BEHAVIOUR = "{} is tested on", "network {}", "behaviour number of the {}"
CONTENT, SPLIT = "content of {}", "split of {}"

K = TypeVar("K", bound=Hashable)
Values = Mapping[str, set[str]]
Reduced = Mapping[metrics.Reduction, Mapping[str, float]]
Runs = Mapping[tuple[tuple[str, ...], str, int], Record]


@dataclass(frozen=True)
class Numbers:
    """One network's figures in both studies, over the repeats that both have finished.

    Attributes:
        repeats: how many these are.
        identical: in how many of them all metrics are equal to the last bit.
        means: metric -> mean of the first study, mean of the second; as stored.
    """

    train: str
    test: str
    model: str
    repeats: int
    identical: int
    means: Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class StudyDifference:
    """Differences of two studies, the first study's values before the second's.

    Attributes:
        sections: heading -> a line per difference, perhaps none.
        numbers: one entry per training set, test set and network with repeats that both studies finished.
        outcomes: a line per run that both have and that ended differently.
        reduction: how the accuracy figures are taken over images.
    """

    sections: Mapping[str, Sequence[str]]
    numbers: Sequence[Numbers]
    outcomes: Sequence[str]
    reduction: metrics.Reduction

    @property
    def identical(self) -> bool:
        """Whether there are common runs and all of them have the same numbers to the last bit."""
        return bool(self.numbers) and not self.outcomes and all(row.identical == row.repeats for row in self.numbers)


def compare_studies(first: Path, second: Path) -> StudyDifference:
    """Compare two studies (each ``results/<study>``) by their records; neither models nor data are needed.

    Raises:
        UserError: no study there, or a broken file in it.
    """
    ours, theirs = _protocol(first), _protocol(second)
    names = distinct_names([first, second])
    a, b = _runs(first), _runs(second)
    common = [run for run in a if run in b]
    both = [run for run in common if (a[run].status, b[run].status) == ("ok", "ok")]
    inputs = [
        {
            template.format(name): values
            for (template, name), values in made_from(records.values(), folds=bool(protocol.split.folds)).items()
        }
        for records, protocol in ((a, ours), (b, theirs))
    ]
    sections = {
        "settings": protocol_differences(ours, theirs, ignored=frozenset()),
        "data and code": _differing(inputs[0], inputs[1], inputs[0].keys() & inputs[1].keys()),
        "environment": _environment_differences(_environments(first, a.values()), _environments(second, b.values())),
        "runs": [
            *(f"only in {names[0]}: {line}" for line in _grouped(run for run in a if run not in b)),
            *(f"only in {names[1]}: {line}" for line in _grouped(run for run in b if run not in a)),
        ],
    }
    endings = [(run, _ending(a[run]), _ending(b[run])) for run in common]
    outcomes = [f"{_name(*run)}: {ending} | {other}" for run, ending, other in endings if ending != other]
    reduction = ours.report.reduction
    return StudyDifference(sections, _numbers(both, a, b, reduction), outcomes, reduction)


def _protocol(study: Path) -> Protocol:
    protocol = Store(study).read_protocol()
    if protocol is None:
        raise UserError(f"{Store(study).protocol_file}: no such file; expected a study that `benchmark run` made")
    return protocol


def _runs(study: Path) -> Runs:
    records = [record for _, record in Store(study).records()]
    return {(record.train, record.model, record.repeat): record for record in records}


def _ending(record: Record) -> str:
    return f"{record.status} ({record.failure.kind})" if record.failure else record.status


def made_from(records: Iterable[Record], *, folds: bool) -> dict[tuple[str, str], set[str]]:
    """Return what runs were made from, apart from settings: data, division, networks, the harness's behaviour.

    Args:
        records: of the runs.
        folds: whether each repeat has a division of its own.

    Returns:
        (sentence with a gap, what stands in it) -> the values that there are.
    """
    pairs: list[tuple[tuple[str, str], str]] = []
    for record in records:
        train, parts = "+".join(record.train), record.key_parts
        facts = {
            (TESTED, train): ", ".join(record.test),
            (NETWORK, record.model): parts.model,
            (BEHAVIOUR, "harness"): str(parts.behaviour),
            **{(CONTENT, name): fingerprint for name, fingerprint in contents(record).items()},
        }
        if record.training is not None:
            facts[SPLIT, f"{train} in fold {record.repeat}" if folds else train] = record.training.split
        pairs += facts.items()
    return _collected(pairs)


def environment(study: Path, record: Record) -> dict[str, str]:
    """Return a record's environment under dotted keys, with all packages where the study still has their list."""
    facts = {key: str(value) for key, value in flatten_settings(record.environment).items()}
    digest = facts.pop("package_list", None)
    if digest is not None and (file := Store(study).packages_file(digest)).is_file():
        listed = (line.partition("==") for line in file.read_text("utf-8").splitlines())
        facts |= {f"{PACKAGE}{name}": version for name, _, version in listed}
        facts["package_list"] = digest
    return facts


def contents(record: Record) -> dict[str, str]:
    """Return the fingerprint of each dataset of a run, as :attr:`benchmark.data.tasks.Task.fingerprint` joined them."""
    train, _, test = record.key_parts.data.partition(">")  # the second part is missing where both are the same
    parts = ((record.train, train), (record.test, test or train))
    return {
        name: fingerprint
        for names, joined in parts
        for name, fingerprint in zip(names, joined.split("+"), strict=False)
    }


def _environments(study: Path, records: Iterable[Record]) -> dict[str, set[str]]:
    """Return the values that each fact has among a study's finished runs; others may lack facts."""
    pairs = [pair for record in records if record.status == "ok" for pair in environment(study, record).items()]
    return _collected(pairs)


def _collected(pairs: Iterable[tuple[K, str]]) -> dict[K, set[str]]:
    """Return the values of each key."""
    values: dict[K, set[str]] = {}
    for key, value in pairs:
        values.setdefault(key, set()).add(value)
    return values


def environment_differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Return ``key: ours | theirs`` for the facts that differ between two records' environments."""
    return _environment_differences(*({key: {value} for key, value in side.items()} for side in (ours, theirs)))


def _environment_differences(ours: Values, theirs: Values) -> list[str]:
    if not ours or not theirs:
        return []  # without a finished run, a study has none
    keys = (ours.keys() | theirs.keys()) - {"package_list"}
    # A record names the main packages itself: without both lists, the others would all seem to be missing on one side.
    if not all("package_list" in side for side in (ours, theirs)):
        keys -= {key for key in ours.keys() ^ theirs.keys() if key.startswith(PACKAGE)}
    minor = {key for key in keys if key.startswith(PACKAGE) and key.removeprefix(PACKAGE) not in PACKAGES}
    minor = {key for key in minor if ours.get(key) != theirs.get(key)}
    if len(minor) <= LISTED_PACKAGES:
        return _differing(ours, theirs, keys)
    alone, other_alone = (len(minor & (side.keys() - other.keys())) for side, other in ((ours, theirs), (theirs, ours)))
    versions = len(minor) - alone - other_alone
    return [
        *_differing(ours, theirs, keys - minor),
        f"other packages: {alone} only here | {other_alone} only here; {versions} of other versions; "
        "environment/packages.*.txt of each study lists them",
    ]


def _differing(ours: Values, theirs: Values, keys: Set[str]) -> list[str]:
    return [
        f"{key}: {_listed(ours.get(key, set()))} | {_listed(theirs.get(key, set()))}"
        for key in sorted(keys)
        if ours.get(key) != theirs.get(key)
    ]


def _listed(values: set[str]) -> str:
    return ", ".join(sorted(values)) or MISSING


def _name(train: tuple[str, ...], model: str, repeat: int) -> str:
    return f"{'+'.join(train)} {model} repeat {repeat}"


def _grouped(runs: Iterable[tuple[tuple[str, ...], str, int]]) -> list[str]:
    repeats: dict[str, list[int]] = {}
    for train, model, repeat in runs:
        repeats.setdefault(f"{'+'.join(train)} {model}", []).append(repeat)
    return [f"{name}, repeat {', '.join(map(str, sorted(numbers)))}" for name, numbers in repeats.items()]


def _same(ours: Reduced, theirs: Reduced) -> bool:
    """Tell whether the metrics of a test are equal to the last bit, metrics that one release lacks left out."""
    names = [(how, name) for how in ours.keys() & theirs.keys() for name in ours[how].keys() & theirs[how].keys()]
    return bool(names) and all(ours[how][name] == theirs[how][name] for how, name in names)


def _numbers(
    both: Sequence[tuple[tuple[str, ...], str, int]], ours: Runs, theirs: Runs, reduction: metrics.Reduction
) -> list[Numbers]:
    pairs: dict[tuple[str, str, str], list[tuple[Record, Record]]] = {}
    for run in both:
        for test in ours[run].metrics:
            if test in theirs[run].metrics:
                pairs.setdefault(("+".join(run[0]), test, run[1]), []).append((ours[run], theirs[run]))
    shown: list[tuple[metrics.Reduction, str]] = [(reduction, name) for name in ACCURACY]
    shown += [("pooled", name) for name in POOLED]
    numbers = []
    for (train, test, model), records in sorted(pairs.items(), key=lambda item: known_first(item[0][1], ()) + item[0]):
        sides = [(record.metrics[test], other.metrics[test]) for record, other in records]
        means = {}
        for how, name in shown:
            values = ((by.get(how, {}).get(name), other.get(how, {}).get(name)) for by, other in sides)
            if present := [(value, other) for value, other in values if value is not None and other is not None]:
                ours_mean, theirs_mean = (math.fsum(side) / len(side) for side in zip(*present, strict=True))
                means[name] = ours_mean, theirs_mean
        numbers.append(Numbers(train, test, model, len(sides), sum(_same(*pair) for pair in sides), means))
    return numbers


def describe(difference: StudyDifference, first: str, second: str) -> str:
    """Write a comparison of two studies for a terminal: what differs, and the networks whose numbers differ."""
    lines = [f"{first} | {second}"]
    for heading, differences in (*difference.sections.items(), ("ended differently", difference.outcomes)):
        if differences:
            lines += ["", heading, *(f"  {line}" for line in differences)]
    runs, identical = sum(row.repeats for row in difference.numbers), sum(row.identical for row in difference.numbers)
    summary = f"identical to the last bit in {identical} of {counted(runs, 'test')} that both have finished"
    lines += ["", f"numbers: {summary if runs else 'no finished run in common'}"]
    changed = [row for row in difference.numbers if row.identical < row.repeats]
    if changed:
        lines += [
            f"  Means over the n repeats that both have finished; Δ: {second} minus {first}, in percentage points.",
            f"  Accuracy: {metrics.REDUCTIONS[difference.reduction]}; electrical: {metrics.REDUCTIONS['pooled']}.",
            *("  " + line for line in _table(changed, first, second)),
        ]
    return "\n".join(lines)


def _table(rows: Sequence[Numbers], first: str, second: str) -> list[str]:
    import pandas as pd  # merged reports use this module too, and importing pandas takes 0.3 s

    shown = [name for name in (*ACCURACY, *POOLED) if any(name in row.means for row in rows)]
    content = []
    for row in rows:
        cells = {"trained on": row.train, "tested on": row.test, "model": row.model}
        cells |= {"n": str(row.repeats), "identical": str(row.identical)}
        for study, mean in zip((first, second), row.means.get("miou", ()), strict=False):
            cells[f"mIoU {study}"] = f"{100 * mean:.2f}"
        for name in [name for name in shown if name in row.means]:
            mean, other_mean = row.means[name]
            cells[f"Δ {metrics.METRICS[name].display}"] = f"{100 * (other_mean - mean):+.3g}"  # also a tiny difference
        content.append(cells)
    return pd.DataFrame(content).to_string(index=False, na_rep=MISSING).splitlines()
