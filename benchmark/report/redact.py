"""Removes images, messages and paths from a study, and renames datasets and studies."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_origin

from pydantic import BaseModel

from benchmark.config.protocol import PRESETS, Protocol
from benchmark.data.specs import SUFFIX
from benchmark.records.run_record import Failure
from benchmark.records.store import Broken
from benchmark.report.page.origin import FACTS
from benchmark.report.read import Run, Scores, StudyResults
from benchmark.report.tables.render import FAMILIES
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_limited
from benchmark.utils.names import is_plain

WITHHELD = "message withheld"
NAME_BYTES = 1 << 20  # of a table of names
STRANGER = re.compile(r"references/(\S+)\.[^.\s]+\.csv")  # the dataset in the name of a file that is left out


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
        failure = run.record.failure
        kept = Failure(kind=failure.kind, message=WITHHELD) if failure else None
        record = run.record.model_copy(update={"failure": kept})
        return replace(run, record=record, scores={test: with_numbers(scores) for test, scores in run.scores.items()})

    return replace(
        study,
        stressed=tuple(replace(test, scores=without_names(test.scores)) for test in study.stressed),
        broken_stress=tuple("a stress test cannot be read" for _ in study.broken_stress),
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
    """Return the study with other names of datasets and studies, in every text and as parts of longer names too.

    Args:
        study: redacted.
        names: old -> new.
        studies: names of the study or, if it is merged, of all studies.

    Raises:
        UserError: a name that no dataset and no study has, or that something else has too, or a new name that another
            one keeps.
    """
    known = {*_datasets(study), *studies, *study.sources}
    known |= {run.record.init.study for run in study.runs if run.record.init}
    if unknown := [name for name in names if name not in known]:
        raise UserError(
            f"--rename: no dataset and no study is called {unknown[0]!r}{did_you_mean(unknown[0], sorted(known))}; "
            f"expected some of {', '.join(sorted(known))}"
        )
    for kind, word in _fixed_words(study):
        for old in names:
            if _pattern([old]).search(word):
                raise UserError(
                    f"--rename: {old!r} is also a word of the {kind} {word!r}, which must stay; leave it out, and "
                    "rename the folder of the dataset or study by hand"
                )
    if taken := [new for old, new in names.items() if new != old and new in known - set(names)]:
        raise UserError(f"--rename: {taken[0]!r} is the name of another dataset or study; choose a new one")
    renamed: StudyResults = renamed_texts(study, names)
    return renamed


def renamed_texts(value: Any, names: Mapping[str, str]) -> Any:
    """Return a value with other names in all its texts; counts per image, paths and fixed words stay."""
    if not names or isinstance(value, Scores):
        return value
    if isinstance(value, str):
        return _pattern(names).sub(lambda match: names[match[0]], value)
    if isinstance(value, Broken):
        return Broken(Path(renamed_texts(value.run, names)), renamed_texts(value.reason, names))
    if isinstance(value, tuple | list):
        return type(value)(renamed_texts(item, names) for item in value)
    if isinstance(value, Mapping):
        return {renamed_texts(key, names): renamed_texts(item, names) for key, item in value.items()}
    if isinstance(value, BaseModel):
        kept = {name for name, field in type(value).model_fields.items() if get_origin(field.annotation) is Literal}
        if isinstance(value, Protocol) and set(value.name.split(" + ")) <= set(PRESETS):
            kept.add("name")
        parts = {name: getattr(value, name) for name in type(value).model_fields if name not in kept}
        return value.model_copy(update={name: renamed_texts(part, names) for name, part in parts.items()})
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in fields(value) if field.init}
        return replace(value, **{name: renamed_texts(part, names) for name, part in parts.items()})
    return value


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Find names as whole words."""
    # The longest first, so that a name that begins another does not break it.
    longest = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    return re.compile(rf"(?<![^\W_])(?:{longest})(?![^\W_])")


def _fixed_words(study: StudyResults) -> Iterator[tuple[str, str]]:
    """Yield what a report is made by and what must stay, each with its kind."""
    models = {run.record.model for run in study.runs} | {run.model for run in study.unfinished}
    models |= {measurement.record.model for measurement in study.efficiency}
    models |= {comparison.model for comparison in study.comparisons if comparison.model}
    models |= {name for entry in study.networks.values() for name in (entry.name, entry.display)}
    models |= {method for methods in study.references.values() for method in methods}
    figures = {figure for measurement in study.efficiency for figure in measurement.figures}
    for kind, words in {"model": models, "family": FAMILIES, "fact": FACTS, "figure": figures}.items():
        yield from ((kind, word) for word in sorted(words))


def _datasets(study: StudyResults) -> set[str]:
    """Return the names of all datasets that a report may print, also without the suffix of stand-ins."""
    names = {name for run in study.runs for name in (*run.record.train, *run.record.test)}
    names |= {name for run in study.runs if run.record.init for name in run.record.init.train}
    names |= {name for run in study.unfinished for name in (*run.train, *run.test)}
    names |= {name for file in study.strangers for name in STRANGER.findall(file)}
    for _, group in study.protocol or ():
        if isinstance(group, BaseModel):
            names |= {name for field, table in group if field.endswith("_by_dataset") for name in table}
    return names | {name.removesuffix(SUFFIX) for name in names} | {*study.references}


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
