"""Tables time and speed of training, per dataset and device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass

from benchmark.config.execution import WORDS
from benchmark.config.protocol import Protocol
from benchmark.data.specs import KNOWN, known_first
from benchmark.records.run_record import Record, TrainingFacts
from benchmark.report.read import StudyResults
from benchmark.report.tables.conventions import display, folds_of, in_order, noun_under, over_repeats
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.words import counted

COLUMNS = (
    Column("epochs", "Epochs", higher_is_better=None, digits=1),
    Column("best_epoch", "Best", higher_is_better=None, digits=1),
    Column("steps", "Steps", higher_is_better=None, digits=0),
    Column("seconds_per_epoch", "Per epoch", higher_is_better=False, digits=2, unit="s"),
    Column("images_per_second", "Images/s", higher_is_better=True, digits=1),
    Column("seconds", "Per run", higher_is_better=False, digits=1, unit="s"),
    Column("device_seconds", "All runs", higher_is_better=False, digits=1, unit="s"),
)


@dataclass(frozen=True, order=True)
class TimingSetting:
    """Conditions that training times of one column share."""

    train: str
    device: str
    dtype: str
    threads: int
    execution: str = ""

    @classmethod
    def of(cls, record: Record) -> TimingSetting:
        """Read where a run was trained; older releases name no number format, and are eager as most others are."""
        facts = record.environment
        device = str(facts.get("gpu") or facts.get("cpu", "unknown device"))
        threads = facts.get("threads")
        dtype, execution = str(facts.get("compute_dtype", "")), WORDS.get(str(facts.get("execution")), "")
        return cls("+".join(record.train), device, dtype, threads if isinstance(threads, int) else 0, execution)


def cost(study: StudyResults) -> Table:
    """Return one block per training dataset and device; empty where no run has finished."""
    if study.protocol is None:
        return Table("training", "Training cost")
    settings: dict[TimingSetting, dict[str, list[TrainingFacts]]] = {}
    for run in study.runs:
        if run.record.training is not None:
            models = settings.setdefault(TimingSetting.of(run.record), {})
            models.setdefault(run.record.model, []).append(run.record.training)
    ordered = sorted(settings, key=lambda setting: (known_first(setting.train, KNOWN), setting))
    blocks = (_block(study.protocol, setting, settings[setting]) for setting in ordered)
    return Table("training", "Training cost", tuple(blocks))


def figures(facts: TrainingFacts, protocol: Protocol) -> dict[str, float]:
    """Return a run's figures; an epoch is one pass over the training images, also where the protocol counts steps."""
    settings = protocol.training
    steps_per_epoch = -(-facts.train_images // settings.batch)
    # The steps between two validations: an epoch's, unless the protocol counts steps.
    interval = settings.validate_every or settings.steps or steps_per_epoch
    epochs = facts.steps / steps_per_epoch
    return {
        "epochs": epochs,
        "best_epoch": min(facts.best_round * interval, facts.steps) / steps_per_epoch,
        "steps": facts.steps,
        "seconds_per_epoch": facts.seconds / epochs,
        "images_per_second": facts.images_per_second,
        "seconds": facts.seconds,
    }


def _block(protocol: Protocol, setting: TimingSetting, models: dict[str, list[TrainingFacts]]) -> Block:
    return Block(
        key="-".join(str(value) for value in astuple(setting) if value),
        title=", ".join(filter(None, (f"Training cost on {setting.train}", setting.device, setting.execution))),
        facts={
            "train": setting.train, "protocol": protocol.name, "device": setting.device, "dtype": setting.dtype,
            "threads": setting.threads, **({"execution": setting.execution} if setting.execution else {}), "ddof": 1,
            **folds_of(protocol),
        },
        conventions=tuple(_conventions(protocol, setting, models)),
        columns=COLUMNS,
        rows=tuple(_row(name, models[name], protocol) for name in in_order(models)),
        n=max(map(len, models.values())),
    )  # fmt: skip


def _row(name: str, runs: Sequence[TrainingFacts], protocol: Protocol) -> Row:
    by_run = [figures(facts, protocol) for facts in runs]
    cells = {key: cell for key in by_run[0] if (cell := Cell.over(values[key] for values in by_run))}
    cells["device_seconds"] = Cell(sum(facts.seconds for facts in runs), None, len(runs))
    return Row(name, *display(name), cells)


def _conventions(protocol: Protocol, setting: TimingSetting, models: dict[str, list[TrainingFacts]]) -> Iterator[str]:
    yield over_repeats(max(map(len, models.values())), protocol)
    yield "Epochs: passes over the training images; Best: after which the kept weights were reached."
    yield (
        "Images/s: while training; Per epoch and Per run: with validation, without the test; All runs: the sum over "
        f"{noun_under(protocol)}s, in seconds of the device."
    )
    threads = counted(setting.threads, "thread")
    how = ", ".join(filter(None, (setting.dtype, setting.execution, threads)))
    yield f"Protocol: {protocol.name}; {how} per run; runs may share a CPU."
    yield "Bold: best, underlined: second, by the printed mean; equal means share a mark."
