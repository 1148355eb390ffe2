"""Decides in which settings studies must agree before their runs share a table."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass

from benchmark.config.protocol import HARMLESS, Protocol, protocol_differences
from benchmark.config.targets import is_own
from benchmark.report import diff
from benchmark.report.read import StudyResults
from benchmark.report.scores import Scores
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

#: Settings that may differ between two protocols; another seed makes other repeats.
FREE = HARMLESS - {"report"} | {"seed"}
IMAGES, START, ORIGIN = "test images of {}", "weights that {} start from", "weights that runs on {} start from"

#: Fact that studies must share -> study -> its values.
Facts = dict[tuple[str, str], dict[str, set[str]]]


@dataclass(frozen=True)
class Part:
    """One of the studies that are to be merged."""

    name: str
    study: StudyResults

    @property
    def protocol(self) -> Protocol:
        """The settings of a study that has runs."""
        assert self.study.protocol is not None
        return self.study.protocol


def refuse_strangers(parts: Sequence[Part]) -> None:
    """Refuse studies (all with a protocol) whose runs must not share a table.

    Raises:
        UserError: names what differs, the values, and a remedy.
    """
    for part in parts:
        _refuse_stale(part)
    for part in parts[1:]:
        _refuse_other_settings(parts[0], part)
    _refuse_other_inputs(parts)
    _refuse_other_repeats(parts)


def _refuse_stale(part: Part) -> None:
    digest = part.protocol.digest()
    if stale := [run.record for run in part.study.runs if run.record.key_parts.protocol != digest]:
        first = f"{'+'.join(stale[0].train)} {stale[0].model} repeat {stale[0].repeat}"
        raise UserError(
            f"{part.name}: holds {counted(len(stale), 'run')} made under other settings than its protocol.toml has, "
            f"such as {first}; expected runs of one protocol: run them again (`run --study {part.name} "
            "--replace-stale`)"
        )


def _refuse_other_settings(first: Part, other: Part) -> None:
    differences = protocol_differences(first.protocol, other.protocol, ignored=FREE)
    if not differences:
        return
    remedy = "report them one by one, or run one again under the other's settings"
    if all(line.startswith("report.") for line in differences):
        remedy = "it changes no record: write the same into both protocol.toml files"
    raise UserError(
        f"{first.name} and {other.name}: made under different settings, which must not share a table: "
        f"{'; '.join(differences)} ({first.name} -> {other.name}); {remedy}"
    )


def _refuse_other_inputs(parts: Sequence[Part]) -> None:
    facts: Facts = {}
    for part in parts:
        for (template, name), values in _made_from(part):
            facts.setdefault((template, name), {}).setdefault(part.name, set()).update(values)
    lines, names = [], set[str]()
    for (template, name), by_study in sorted(facts.items()):
        if len(set().union(*by_study.values())) > 1:
            lines.append(f"{template.format(name)}: {_listed(by_study)}")
            names |= by_study.keys()
    if lines:
        compared = f"`diff {' '.join(sorted(names))}` shows all" if len(names) == 2 else "`diff` shows all of two"
        raise UserError(
            f"{' and '.join(sorted(names))}: made from different things, which must not share a table: "
            f"{'; '.join(lines)}. Report them one by one, or run what differs again on the same data with one release "
            f"(`run --replace-stale`); {compared}"
        )


def _refuse_other_repeats(parts: Sequence[Part]) -> None:
    """Refuse networks that do not share all seeds and folds: each has other test images, perhaps harder for all."""
    seeds = len({part.protocol.seed for part in parts})
    if seeds < 2 and not any(part.protocol.split.folds for part in parts):
        return
    held: dict[str, dict[str, set[str]]] = {}
    finished: dict[str, dict[str, set[str]]] = {}
    for part in parts:
        for run in part.study.runs:
            record, seed = run.record, part.protocol.seed
            for test in record.test:
                name = record.model if is_own(record.train, test) else f"{record.model} after {'+'.join(record.train)}"
                held.setdefault(test, {}).setdefault(name, set()).add(f"repeat {record.repeat} of seed {seed}")
                if test in run.scores:
                    finished.setdefault(test, {}).setdefault(name, set()).add(f"a finished run of seed {seed}")
    lines = list(_lacking(held)) or (list(_lacking(finished)) if seeds > 1 else [])
    if lines:
        raise UserError(
            f"{' and '.join(part.name for part in parts)}: have different {'seeds' if seeds > 1 else 'folds'}, so "
            "other test images, but not the same repeats of all networks, whose means could not be compared: "
            f"{'; '.join(lines)}. Run what is missing in the study of that seed (`run --study NAME`), or report them "
            "one by one"
        )


def _lacking(held: Mapping[str, Mapping[str, Set[str]]]) -> Iterator[str]:
    """Yield for each test dataset who lacks what another has."""
    for test, by_name in held.items():
        everything = set[str]().union(*by_name.values())
        lacking: dict[str, list[str]] = {}
        for name, repeats in sorted(by_name.items()):
            if missing := sorted(everything - repeats):
                lacking.setdefault(", ".join(missing), []).append(name)
        yield from (f"on {test}, {', '.join(names)} without {missing}" for missing, names in lacking.items())


def _listed(by_study: Mapping[str, Set[str]]) -> str:
    """Return ``value (studies) | value (studies)``."""
    studies: dict[str, list[str]] = {}
    for name, values in by_study.items():
        studies.setdefault(", ".join(sorted(values)), []).append(name)
    return " | ".join(f"{value} ({', '.join(names)})" for value, names in studies.items())


def _made_from(part: Part) -> Iterator[tuple[tuple[str, str], set[str]]]:
    """Yield what must be one for all studies; what another seed draws anew, only for those of the same seed."""
    seed, folds = f" (seed {part.protocol.seed})", bool(part.protocol.split.folds)
    records = [run.record for run in part.study.runs]
    for (template, name), values in diff.made_from(records, folds=folds).items():
        if template == diff.CONTENT:
            yield (template, name), {_content(name, value, part.protocol) for value in values}
        else:
            yield (template, name + seed * (template == diff.SPLIT)), values
    for record in records:
        drawn = record.key_parts.init is None
        given = "those of a file" if record.init and not record.init.train else "those of another study"
        yield (START, "runs"), {"random ones" if drawn else given}
        if record.init is not None:
            yield (ORIGIN, "+".join(record.train) + seed), {record.init.source.removeprefix("study ")}
    for run in part.study.runs:
        fold = f" in fold {run.record.repeat}" * folds
        yield from (((IMAGES, test + fold + seed), {_images(scores)}) for test, scores in run.scores.items())
    if not folds:  # of folds, a study has those of its runs, or there is no run to compare with
        for test, methods in part.study.references.items():
            divisions = (scores for divided in methods.values() for scores in divided)
            yield from (((IMAGES, test + seed), {_images(scores)}) for scores in divisions)


def _content(name: str, fingerprint: str, protocol: Protocol) -> str:
    """Return what tells one dataset's content from another's: of a stand-in the generator, since seeds draw it."""
    if name.endswith("-syn"):
        from benchmark.data.datasets import standin_version

        if (version := standin_version(name, fingerprint, protocol)) is not None:
            return f"stand-in, version {version}"
    return fingerprint


def _images(scores: Scores) -> str:
    names = sorted(zip(scores.images, scores.groups, strict=True))
    return f"{len(scores.images)} ({hashlib.sha256(repr(names).encode()).hexdigest()[:8]})"
