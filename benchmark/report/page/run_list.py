"""Lists a study's runs, to which every number of the page leads."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

from benchmark.config.registry import BUILTIN
from benchmark.data.specs import KNOWN, known_first
from benchmark.metrics import Reduction
from benchmark.report.read import Run, StudyResults
from benchmark.report.tables.conventions import display

#: Lines of the list, and runs of a line, at most.
LINES, RUNS = 400, 20


@dataclass(frozen=True)
class LinkedRun:
    """A run in the list.

    Attributes:
        repeat: its number.
        text: mIoU in percent on each test dataset, or the run's status.
        href: of its record, from the report's folder; blank for no link.
    """

    repeat: int
    text: str
    href: str


@dataclass(frozen=True)
class RunLine:
    """The runs of one model on one training set.

    Attributes:
        anchor: identifier of the line in the page.
        model: key of its row in tables.
        label: its name for readers.
        train: training datasets, joined by ``+``.
        runs: its first repeats.
        more: number of those that are left out.
    """

    anchor: str
    model: str
    label: str
    train: str
    runs: tuple[LinkedRun, ...]
    more: int


@dataclass(frozen=True)
class RunList:
    """All runs.

    Attributes:
        lines: one per training set and model.
        left_out: lines that the page has no room for.
        linked: whether the runs' records can be opened from the report's folder.
        conventions: of the figures in it.
    """

    lines: tuple[RunLine, ...]
    left_out: int
    linked: bool
    conventions: str

    @classmethod
    def of(cls, study: StudyResults, *, linked: bool) -> RunList:
        """Collect the runs; those of several studies that are reported as one have no links."""
        linked = linked and not study.sources
        groups: dict[tuple[tuple[str, ...], str], list[Run]] = {}
        for run in study.runs:
            groups.setdefault((run.record.train, run.record.model), []).append(run)
        order = sorted(
            groups,
            key=lambda key: ([known_first(name, KNOWN) for name in key[0]], known_first(key[1], BUILTIN)),
        )
        reduction: Reduction = study.protocol.report.reduction if study.protocol else "image"
        lines = []
        for number, (train, model) in enumerate(order[:LINES]):
            every = sorted(groups[train, model], key=lambda run: run.record.repeat)
            runs = tuple(
                LinkedRun(
                    run.record.repeat,
                    _text(run, reduction),
                    f"../runs/{quote(run.record.label)}/record.json" if linked else "",
                )
                for run in every[:RUNS]
            )
            more = len(every) - len(runs)
            lines.append(RunLine(f"run-{number}", model, display(model)[0], "+".join(train), runs, more))
        conventions = f"mIoU in percent, {reduction} reduction"
        return cls(tuple(lines), len(order) - len(lines), linked, conventions)

    @property
    def anchors(self) -> dict[tuple[str, str], str]:
        """(training datasets, model) -> identifier of its line."""
        return {(line.train, line.model): line.anchor for line in self.lines}


def _text(run: Run, reduction: Reduction) -> str:
    values = {
        test: f"{100 * miou:.2f}"
        for test, scores in run.scores.items()
        if (miou := scores.reduced[reduction].get("miou")) is not None
    }
    if len(values) == 1:
        return next(iter(values.values()))
    return ", ".join(f"{test} {value}" for test, value in values.items()) or run.record.status
