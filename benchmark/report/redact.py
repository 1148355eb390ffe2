"""Removes images, messages and paths from a study, and renames datasets and studies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from benchmark.config.protocol import PRESETS, Protocol
from benchmark.config.targets import AT, dataset_of
from benchmark.data.specs import SUFFIX
from benchmark.records.run_record import Failure
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.records.store import Broken
from benchmark.report.read import EnsembleTest, Run, Stressed, StudyResults
from benchmark.report.scores import Scores
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_limited
from benchmark.utils.names import is_plain

T = TypeVar("T", Stressed, EnsembleTest)

WITHHELD = "message withheld"
#: What a measurement says of an error: the figure that is missing, the error's kind, and the words of a program.
SAID = re.compile(r"(no (?:peak memory|limits) of [^:]*|fvcore has not checked the MACs): (\w+): .*", re.DOTALL)
NAME_BYTES = 1 << 20  # of a table of names
JOINT = " + "  # between the protocols of merged studies
BY_DATASET = "_by_dataset"  # ends the names of settings that are tables
BROKEN = re.compile(r"(?<= )[^\s/]+(?=/[^\s/]+/\d+ of )")  # training datasets of a broken run of a merged study
STRANGER = re.compile(r"(?<=references/)\S+(?=\.[^.\s]+\.csv)")  # the dataset in the name of a file that is left out


def redact_study(study: StudyResults) -> StudyResults:
    """Return the study with numbers in place of the names of images and frames, and nothing that a program said.

    Numbers follow the names' order and are padded with zeros, so that everything that is computed in the order of names
    comes out the same. Names of datasets, models and studies stay: :func:`rename_study` replaces them.
    """
    images, groups = (_numbered(names) for names in _names(study))

    def with_numbers(scores: Scores) -> Scores:
        names = tuple(images[name] for name in scores.images)
        return replace(scores, images=names, groups=tuple(groups[name] for name in scores.groups))

    def without_names(scores: Scores) -> Scores:
        return replace(scores, images=("",) * len(scores.images), groups=("",) * len(scores.groups))

    def without_messages(run: Run) -> Run:
        failure, environment = run.record.failure, dict(run.record.environment)
        kept = Failure(kind=failure.kind, message=WITHHELD) if failure else None
        if reason := environment.get("execution_reason"):
            environment["execution_reason"] = f"{str(reason).partition(':')[0]}: {WITHHELD}"
        record = run.record.model_copy(update={"failure": kept, "environment": environment})
        return replace(run, record=record, scores={test: with_numbers(scores) for test, scores in run.scores.items()})

    def without_refusals(comparison: SpeedupComparison) -> SpeedupComparison:
        others = (other.model_copy(update={"refusal": other.refusal and WITHHELD}) for other in comparison.others)
        return comparison.model_copy(update={"others": tuple(others)})

    protocol = study.protocol
    if protocol is not None and protocol.training.encoder_file is not None:  # its name may tell the chip's
        training = protocol.training.model_copy(update={"encoder_weights": "file"})
        protocol = protocol.model_copy(update={"training": training})
    return replace(
        study,
        protocol=protocol,
        stressed=tuple(replace(test, scores=without_names(test.scores)) for test in study.stressed),
        ensembles=tuple(replace(test, scores=without_names(test.scores)) for test in study.ensembles),
        efficiency=tuple(
            replace(measured, warnings=tuple(SAID.sub(rf"\1: \2, {WITHHELD}", text) for text in measured.warnings))
            for measured in study.efficiency
        ),
        comparisons=tuple(map(without_refusals, study.comparisons)),
        broken_stress=tuple("a stress test cannot be read" for _ in study.broken_stress),
        broken_ensembles=tuple("an ensemble's test cannot be read" for _ in study.broken_ensembles),
        runs=tuple(without_messages(run) for run in study.runs),
        references={
            dataset: {method: tuple(map(with_numbers, divisions)) for method, divisions in methods.items()}
            for dataset, methods in study.references.items()
        },
        broken=tuple(Broken(Path(broken.run), f"{broken.run}: its record cannot be read") for broken in study.broken),
    )


def read_new_names(file: Path) -> dict[str, str]:
    """Read a TOML table of old and new names of datasets and studies.

    Raises:
        UserError: the file cannot be read, or holds something else than different plain names.
    """
    try:
        names = tomllib.loads(read_limited(file, NAME_BYTES).decode("utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f'--rename {file}: cannot be read ({error}); expected lines such as "old" = "new"') from error
    for old, new in names.items():
        if not (isinstance(new, str) and is_plain(new)):
            raise UserError(
                f"--rename {file}: {old} = {new!r}; expected a name of letters, digits, underscores, dots and hyphens"
            )
    if len({new.casefold() for new in names.values()}) < len(names):
        raise UserError(f"--rename {file}: two names become one; give each a name of its own")
    return names


def rename_study(study: StudyResults, names: Mapping[str, str], studies: Iterable[str]) -> StudyResults:
    """Return the study with other names of datasets and studies, as parts of longer names too.

    Only names are replaced: a dataset may be called like a model, a metric or a fact about the hardware.

    Args:
        study: redacted.
        names: old -> new.
        studies: names of the study or, if it is merged, of all studies.

    Raises:
        UserError: a name that no dataset, study and protocol has, a new name that another one keeps, a name that
            would keep an old one in another spelling, or one that hides or claims that a dataset is synthetic.
    """
    known = {*_datasets(study), *studies, *study.sources}
    known |= {comparison.study for comparison in study.comparisons if comparison.study}
    known |= {run.record.init.study for run in study.runs if run.record.init}
    known |= {name for name in _protocols(study) if name not in PRESETS}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"--rename: no dataset and no study is called {unknown[0]!r}{did_you_mean(unknown[0], sorted(known))}; "
            f"expected some of {', '.join(sorted(known))}"
        )
    if taken := [new for old, new in names.items() if new != old and new in known - set(names)]:
        raise UserError(f"--rename: {taken[0]!r} is the name of another dataset or study; choose a new one")
    for old in sorted(_datasets(study) & set(names)):
        if old.endswith(SUFFIX) != names[old].endswith(SUFFIX):
            is_drawn = (
                f"is synthetic; expected a new name that ends in {SUFFIX}"
                if old.endswith(SUFFIX)
                else (f"is not synthetic; expected a new name that does not end in {SUFFIX}")
            )
            raise UserError(f"--rename: {old} = {names[old]!r}: {old} {is_drawn}")
    for name in sorted(known - set(names)):
        rest = _pattern(names).sub("", name)
        if left := [old for old in names if re.search(rf"(?<![^\W\d_]){re.escape(old)}(?![^\W\d_])", rest, re.I)]:
            raise UserError(f"--rename: {name!r} would still tell the name {left[0]!r}; add a line for {name!r} too")

    def new(name: str) -> str:
        dataset, at, layer = name.partition(AT)
        return renamed(dataset, names) + at + layer

    def all_new(values: Iterable[str]) -> tuple[str, ...]:
        return tuple(map(new, values))

    def with_names(run: Run) -> Run:
        record, init = run.record, run.record.init
        changes: dict[str, Any] = {"train": all_new(record.train), "test": all_new(record.test)}
        changes["metrics"] = {new(test): values for test, values in record.metrics.items()}
        if init:
            changes["init"] = init.model_copy(update={"study": new(init.study), "train": all_new(init.train)})
        scores = {new(test): scores for test, scores in run.scores.items()}
        return replace(run, record=record.model_copy(update=changes), scores=scores)

    def with_tested_names(tested: T) -> T:
        changes = {"train": all_new(tested.record.train), "test": new(tested.record.test)}
        return replace(tested, record=tested.record.model_copy(update=changes))

    def compared_with_names(comparison: SpeedupComparison) -> SpeedupComparison:
        scores = {new(test): scores for test, scores in comparison.scores.items()}
        return comparison.model_copy(update={"scores": scores, "study": comparison.study and new(comparison.study)})

    def about_sources(sentence: str) -> str:
        """Replace the names of studies, and of runs of theirs, in what merging them said."""
        sentence = BROKEN.sub(lambda match: new(match[0]), sentence)
        listed = "|".join(map(re.escape, sorted(study.sources, key=len, reverse=True)))
        where = rf"(?:(?<=studies )|(?<=, )|(?<= in )|(?<= of ))(?:{listed})(?=[,.;]|$| \(seed )"
        return re.sub(where, lambda match: new(match[0]), sentence) if study.sources else sentence

    return replace(
        study,
        protocol=study.protocol and _with_names(study.protocol, names),
        runs=tuple(map(with_names, study.runs)),
        references={new(test): methods for test, methods in study.references.items()},
        efficiency=tuple(
            replace(measured, warnings=tuple(map(about_sources, measured.warnings))) for measured in study.efficiency
        ),
        broken=tuple(
            Broken(Path(new(train), *parts), f"{new(train)}/{'/'.join(parts)}: its record cannot be read")
            for train, *parts in (broken.folder.parts[-3:] for broken in study.broken)
        ),
        origin=tuple(map(about_sources, study.origin)),
        sources=all_new(study.sources),
        comparisons=tuple(map(compared_with_names, study.comparisons)),
        stressed=tuple(map(with_tested_names, study.stressed)),
        ensembles=tuple(map(with_tested_names, study.ensembles)),
        asked_ensembles={(all_new(train), model) for train, model in study.asked_ensembles},
        strangers=tuple(_with_new_stranger(file, study.sources, names) for file in study.strangers),
        unfinished=tuple(replace(run, train=all_new(run.train), test=all_new(run.test)) for run in study.unfinished),
    )


def renamed(name: str, names: Mapping[str, str]) -> str:
    """Return a name with new names in place of the old ones that it consists of."""
    return _pattern(names).sub(lambda match: names[match[0]], name) if names else name


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Find names as whole words."""
    # The longest first, so that a name that begins another does not break it.
    longest = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?<![^\W_])(?:{longest})(?![^\W_])")


def _with_names(protocol: Protocol, names: Mapping[str, str]) -> Protocol:
    """Return the protocol with other datasets in its tables, and another name unless that is a preset's."""
    called = (name if name in PRESETS else renamed(name, names) for name in protocol.name.split(JOINT))
    changes: dict[str, Any] = {"name": JOINT.join(called)}
    for field, group in protocol:
        if isinstance(group, BaseModel):
            tables = {
                name: {renamed(dataset, names): value for dataset, value in table.items()}
                for name, table in group
                if name.endswith(BY_DATASET)
            }
            changes[field] = group.model_copy(update=tables)
    return protocol.model_copy(update=changes)


def _with_new_stranger(text: str, sources: Iterable[str], names: Mapping[str, str]) -> str:
    """Rename the study in front of a file that is left out, if studies are merged, and the dataset in its name."""
    study = next((source for source in sources if text.startswith(f"{source}/references/")), "")
    text = renamed(study, names) + text.removeprefix(study)
    return STRANGER.sub(lambda match: renamed(match[0], names), text, count=1)


def _protocols(study: StudyResults) -> list[str]:
    """Return the names of the protocols, several if studies are merged."""
    return study.protocol.name.split(JOINT) if study.protocol else []


def _datasets(study: StudyResults) -> set[str]:
    """Return the names of all datasets that a report may print, also without the suffix of stand-ins."""
    names = {dataset_of(name) for run in study.runs for name in (*run.record.train, *run.record.test)}
    names |= {name for run in study.runs if run.record.init for name in run.record.init.train}
    names |= {dataset_of(name) for run in study.unfinished for name in (*run.train, *run.test)}
    names |= {name for file in study.strangers for name in STRANGER.findall(file)}
    names |= {dataset_of(test) for comparison in study.comparisons for test in comparison.scores}
    broken = [run.folder.parts[-3] for run in study.broken]
    broken += [train for sentence in study.origin for train in BROKEN.findall(sentence)]
    names |= {name for train in broken for name in train.split("+")}
    for _, group in study.protocol or ():
        if isinstance(group, BaseModel):
            names |= {name for field, table in group if field.endswith(BY_DATASET) for name in table}
    return names | {name.removesuffix(SUFFIX) for name in names} | set(map(dataset_of, study.references))


def _names(study: StudyResults) -> tuple[list[str], list[str]]:
    """Return all names of images and of frames, in order."""
    counts = [scores for run in study.runs for scores in run.scores.values()]
    counts += [
        scores for methods in study.references.values() for divisions in methods.values() for scores in divisions
    ]
    images = {name for scores in counts for name in scores.images}
    return sorted(images), sorted({name for scores in counts for name in scores.groups})


def _numbered(names: list[str]) -> dict[str, str]:
    width = len(str(len(names)))
    return {name: f"{number:0{width}d}" for number, name in enumerate(names, 1)}
