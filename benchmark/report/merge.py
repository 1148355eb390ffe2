"""Merges several studies into one: runs, repeats, measurements and remarks."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

from benchmark import metrics
from benchmark.records.asked_runs import UnfinishedRun
from benchmark.records.efficiency_record import TOLERANCE
from benchmark.report.agreement import Part, refuse_strangers
from benchmark.report.diff import contents
from benchmark.report.read import Measurement, Run, Setting, StudyResults, read_study
from benchmark.report.scores import Scores
from benchmark.report.tables.render import Table
from benchmark.utils.errors import UserError
from benchmark.utils.names import distinct_names
from benchmark.utils.words import counted

#: Tables without repeats: of what is said of a merged study, only the first sentence concerns them.
WITHOUT_REPEATS = ("efficiency", "profile", "roofline", "growth")


def merge(
    folders: Sequence[Path], *, redact: bool = False, tell: Callable[[str], None] = lambda sentence: None
) -> StudyResults:
    """Read several studies as one that holds all their runs and measurements; their order does not matter.

    A run that several hold counts once. Repeats of another seed are further repeats: those of the lowest seed keep
    their numbers, the others are numbered on, so that repeats pair up where seed and number are the same. Of several
    measurements of one setting, those of the study that measured most networks in it count: what stands in one column
    was then measured under one condition as far as possible.

    Args:
        folders: each ``results/<study>``; those of one name are called after their parents too.
        redact: number studies of one name instead.
        tell: as for :func:`benchmark.report.read.read_study`.

    Raises:
        UserError: a folder is no study, or they hold what must not share a table; names what differs and a remedy.
    """
    names = distinct_names(folders, numbered=redact)
    parts = [Part(name, read_study(folder, tell)) for name, folder in sorted(zip(names, folders, strict=True))]
    ran = [part for part in parts if part.study.protocol is not None]
    refuse_strangers(ran)
    seeds = sorted({part.protocol.seed for part in ran})
    several = len(seeds) > 1
    drawn_anew = _drawn_anew(ran) if several else set()
    shared = 0
    runs: list[Run] = []
    unfinished: list[UnfinishedRun] = []
    lengths: dict[int, int] = {}
    for seed in seeds:
        parts_of_seed = [part for part in ran if part.protocol.seed == seed]
        of_seed, twice = _runs(parts_of_seed)
        left = _unfinished(parts_of_seed, of_seed)
        start = sum(lengths.values())
        unfinished += (replace(run, repeat=run.repeat + start) for run in left)
        runs += (_renamed(_numbered(run, start), seed, drawn_anew) for run in of_seed)
        lengths[seed] = 1 + max((*(run.record.repeat for run in of_seed), *(run.repeat for run in left)), default=-1)
        shared += twice
    named = ", ".join(
        f"{part.name} (seed {part.protocol.seed})" if several and part in ran else part.name for part in parts
    )
    held_twice = f"; {counted(shared, 'run')} that several hold, counted once" if shared else ""
    origin = [f"Merged from the studies {named}{held_twice}."]
    if len({part.protocol.repeats for part in ran}) > 1:
        listed = ", ".join(f"{part.protocol.repeats} in {part.name}" for part in ran)
        origin.append(f"Repeats that were asked for: {listed}.")
    if several:
        origin += _about_seeds(lengths, folds=bool(ran[0].protocol.split.folds))
    if broken := list(_broken(ran)):
        origin.append(f"Left out, since their records are broken: {', '.join(broken)}.")
    protocol = None
    if ran:
        called = " + ".join(dict.fromkeys(part.protocol.name for part in ran))
        protocol = ran[0].protocol.model_copy(update={"name": called})
    return StudyResults(
        protocol,
        tuple(sorted(runs, key=_sort_key)),
        _references(ran, drawn_anew),
        tuple(_measurements(parts)),
        origin=tuple(origin),
        sources=tuple(part.name for part in parts),
        networks={name: entry for part in reversed(parts) for name, entry in part.study.networks.items()},
        strangers=tuple(f"{part.name}/{file}" for part in ran for file in part.study.strangers),
        unfinished=tuple(unfinished),
    )


def with_origin(table: Table, study: StudyResults) -> Table:
    """Return a table that says which studies it was merged from; as it is for a single one."""
    sentences = study.origin[:1] if table.name in WITHOUT_REPEATS else study.origin
    blocks = (replace(block, conventions=(*block.conventions, *sentences)) for block in table.blocks)
    return replace(table, blocks=tuple(blocks)) if sentences else table


def for_figures(study: StudyResults) -> StudyResults:
    """Return a study whose plots name what it was merged from, beside the protocol in their footnotes."""
    if study.protocol is None or not study.origin:
        return study
    source = study.origin[0].removesuffix(".")
    named = study.protocol.model_copy(update={"name": f"{study.protocol.name}. {source}"})
    return replace(study, protocol=named)


def _about_seeds(lengths: Mapping[int, int], *, folds: bool) -> Iterator[str]:
    starts = itertools.accumulate(lengths.values(), initial=0)
    spans = (
        f"{start}{f' to {start + count - 1}' * (count > 1)} are of seed {seed}"
        for (seed, count), start in zip(lengths.items(), starts, strict=False)
        if count
    )
    yield f"Repeats {', '.join(spans)}, where they count from 0 again."
    yield (
        "Each seed divides the images anew, and draws its own stand-ins: the spread over repeats holds that of the "
        "division, a mean that lacks a failed repeat weighs the seeds otherwise, methods without training are means "
        "over the seeds."
    )
    if folds:
        yield "Repeats pair up within a seed, fold by fold: each image is in the test of one fold of every seed."
        return
    yield (
        "Repeats pair up within a seed. Those of one seed share their division: what is tested over repeats is about "
        f"these {len(lengths)} divisions, erring towards no difference, and not about divisions to come."
    )


def _sort_key(run: Run) -> tuple[str, str, str]:
    """Sort runs as their folders would lie in one study."""
    return "+".join(run.record.train), run.record.model, str(run.record.repeat)


def _broken(parts: Sequence[Part]) -> Iterator[str]:
    """Yield the broken runs that no study of the same seed holds whole."""
    whole = {(part.protocol.seed, *_sort_key(run)) for part in parts for run in part.study.runs}
    for part in parts:
        for broken in part.study.broken:
            if (part.protocol.seed, *broken.folder.parts[-3:]) not in whole:
                yield f"{broken.run} of {part.name}"


def _runs(parts: Sequence[Part]) -> tuple[list[Run], int]:
    """Return the runs of studies of one seed, each once, and how many of them several hold.

    A run that finished in one study and not in another has finished; of runs that are alike, the first study's counts.
    """
    held: dict[tuple[tuple[str, ...], str, int], list[tuple[str, Run]]] = {}
    for part in parts:
        for run in part.study.runs:
            record = run.record
            held.setdefault((record.train, record.model, record.repeat), []).append((part.name, run))
    kept, shared = [], 0
    for key, runs in held.items():
        finished = [(name, run) for name, run in runs if run.record.status == "ok"]
        for (first, run), (second, other) in itertools.pairwise(finished):
            for test in sorted(run.scores.keys() | other.scores.keys()):
                label = f"{'+'.join(key[0])} {key[1]} repeat {key[2]} tested on {test}"
                _refuse_other_scores(label, first, second, run.scores.get(test), other.scores.get(test))
        kept.append((finished or runs)[0][1])
        shared += len(finished) > 1
    return kept, shared


def _refuse_other_scores(label: str, first: str, second: str, ours: Scores | None, theirs: Scores | None) -> None:
    reduced = [scores.reduced if scores else {} for scores in (ours, theirs)]
    if reduced[0] == reduced[1]:
        return
    figures = [{(how, name): value for how in side for name, value in side[how].items()} for side in reduced]
    how, name = next(key for key in figures[0] | figures[1] if figures[0].get(key) != figures[1].get(key))
    values = [side.get((how, name)) for side in figures]
    raise UserError(
        f"{label}: {metrics.METRICS[name].display} ({how}) is {values[0]!r} in {first} and {values[1]!r} in {second}, "
        f"though both should be equal; a report does not choose: `diff {first} {second}` shows what else differs; "
        "leave one study out, or move the wrong run out of its study"
    )


def _unfinished(parts: Sequence[Part], runs: Iterable[Run]) -> list[UnfinishedRun]:
    """Return the runs of one seed that a study has not finished, and no other either, each once."""
    finished = {(run.record.train, run.record.model, run.record.repeat) for run in runs}
    left = {(run.train, run.model, run.repeat): run for part in parts for run in part.study.unfinished}
    return [run for key, run in left.items() if key not in finished]


def _numbered(run: Run, start: int) -> Run:
    changed = {"repeat": run.record.repeat + start}
    return replace(run, record=run.record.model_copy(update=changed)) if start else run


def _drawn_anew(parts: Sequence[Part]) -> Set[str]:
    """Return the datasets that seeds have images of their own of, though these are called alike."""
    pairs = {pair for part in parts for run in part.study.runs for pair in contents(run.record).items()}
    return {name for name, count in Counter(name for name, _ in pairs).items() if count > 1}


def _renamed(run: Run, seed: int, datasets: Set[str]) -> Run:
    scores = {test: _of_seed(scores, seed) if test in datasets else scores for test, scores in run.scores.items()}
    return replace(run, scores=scores)


def _of_seed(scores: Scores, seed: int) -> Scores:
    """Call images and frames after their seed, so that none passes for another's."""
    images, groups = (tuple(f"seed {seed}: {name}" for name in names) for names in (scores.images, scores.groups))
    return replace(scores, images=images, groups=groups)


def _references(parts: Sequence[Part], drawn_anew: Set[str]) -> dict[str, dict[str, tuple[Scores, ...]]]:
    """Return the methods without training, once per dataset, seed and fold."""
    held: dict[tuple[str, str], dict[tuple[int, tuple[str, ...]], tuple[str, Scores]]] = {}
    for part in sorted(parts, key=lambda part: part.protocol.seed):
        for test, methods in part.study.references.items():
            for method, divisions in methods.items():
                for scores in divisions:
                    division = part.protocol.seed, tuple(sorted(scores.images))
                    first, other = held.setdefault((test, method), {}).setdefault(division, (part.name, scores))
                    _refuse_other_scores(f"{method} on {test}", first, part.name, other, scores)
    references: dict[str, dict[str, tuple[Scores, ...]]] = {}
    for (test, method), divided in sorted(held.items()):
        counted = ((seed, scores) for (seed, _), (_, scores) in divided.items())
        renamed = (_of_seed(scores, seed) if test in drawn_anew else scores for seed, scores in counted)
        references.setdefault(test, {})[method] = tuple(renamed)
    return references


def _measurements(parts: Sequence[Part]) -> Iterator[Measurement]:
    """Yield the measurements, one per network and setting, as their files would lie in one study."""
    held: dict[tuple[str, Setting], list[tuple[str, Measurement]]] = {}
    extent = Counter((part.name, measurement.setting) for part in parts for measurement in part.study.efficiency)
    for part in parts:
        for measurement in part.study.efficiency:
            held.setdefault((measurement.record.model, measurement.setting), []).append((part.name, measurement))
    for (model, setting), candidates in sorted(held.items()):
        _refuse_other_network(model, setting, candidates)
        # Sorting is stable: of studies that measured as many undisturbed, the first.
        ordered = sorted(candidates, key=lambda item: (item[1].hindered, -extent[item[0], setting]))
        yield _with_warning(ordered)


def _refuse_other_network(model: str, setting: Setting, candidates: Sequence[tuple[str, Measurement]]) -> None:
    records = {name: measurement.record for name, measurement in candidates}
    facts = {
        name: f"version {record.model_version}, {record.params} parameters, {record.macs} MACs"
        for name, record in records.items()
    }
    if len(set(facts.values())) > 1:
        listed = " | ".join(f"{fact} ({name})" for name, fact in facts.items())
        raise UserError(
            f"efficiency of {model} at {setting.size}: measured of different networks: {listed}; measure it again with "
            "one release (`run` or `profile` with --study)"
        )


def _with_warning(candidates: Sequence[tuple[str, Measurement]]) -> Measurement:
    """Return the first measurement, with a warning where the others tell of another speed."""
    (first, chosen), *others = candidates
    p50 = chosen.record.latency.p50_ms
    undisturbed = (
        (name, measurement.record.latency.p50_ms) for name, measurement in others if not measurement.hindered
    )
    far = [
        f"{latency_ms:.2f} ms in {name}"
        for name, latency_ms in undisturbed
        if abs(latency_ms - p50) > TOLERANCE * max(latency_ms, p50)
    ]
    if not far:
        return chosen
    warning = f"the median latency is {p50:.2f} ms in {first}, whose figures stand here, and {', '.join(far)}"
    return replace(chosen, warnings=(*chosen.warnings, warning))
