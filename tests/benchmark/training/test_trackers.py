"""TensorBoard's event files, read back by TensorBoard."""

from __future__ import annotations

import csv
import importlib.util
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.config.protocol import Protocol
from benchmark.records.run_record import Record
from benchmark.records.store import RECORD
from benchmark.runs import train
from benchmark.runs.jobs import TrainJob
from benchmark.runs.train import train_and_test
from benchmark.training import loop
from benchmark.training.checkpoint import Checkpoint
from tests.benchmark.conftest import Call, Measured, tiny_run

MakeJob = Callable[..., TrainJob]
Events = dict[str, list[tuple[int, float]]]


def events_in(folder: Path) -> Events:
    """Step and value of every scalar in a run's event files."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="needs tensorboard: pip install -e '.[trackers]'",
    )
    events = accumulator.EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def history_of(folder: Path) -> Events:
    """The same of ``history.csv``."""
    with (folder / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    names = ("train_loss", "validation_loss", "lr", "images_per_second")
    return {name: [(int(row["steps"]), float(row[name])) for row in rows] for name in names}


def approximately(events: Events) -> object:
    """TensorBoard keeps 32 bits of a number."""
    return {tag: [(step, pytest.approx(value, rel=1e-6)) for step, value in scalars] for tag, scalars in events.items()}


def metrics_of(record: Record) -> Events:
    assert record.training is not None
    return {
        f"{test}/{reduction}/{name}": [(record.training.steps, value)]
        for test, reductions in record.metrics.items()
        for reduction, values in reductions.items()
        for name, value in values.items()
    }


@pytest.fixture
def tracked(small: Protocol, make_job: MakeJob) -> TrainJob:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -e '.[trackers]'")
    return replace(make_job(small), tracker="tensorboard")


def execute(job: TrainJob) -> Record:
    return train_and_test(job, lambda *_: None)


def test_every_round_and_every_metric_is_there_once(tracked: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    best = loop.Round(2, 4, 0.5, 0.5, 1e-3, 1.0, 1.0)
    trained = loop.train
    monkeypatch.setattr(train, "train", lambda *arguments: replace(trained(*arguments), best=best))
    record = execute(tracked)
    history = history_of(tracked.folder)
    assert [step for step, _ in history["train_loss"]] == [2, 4]
    assert events_in(tracked.folder) == approximately(history | metrics_of(record))
    assert "omc-syn/image/miou" in metrics_of(record)


def test_same_numbers_come_out_with_and_without(small: Protocol, make_job: MakeJob, tracked: TrainJob) -> None:
    other = make_job(small, name="other")
    assert execute(tracked).metrics == execute(other).metrics
    assert tracked.key == other.key
    assert not (other.folder / "tensorboard").exists()


def test_files_name_no_machine(tracked: TrainJob) -> None:
    execute(tracked)
    files = list((tracked.folder / "tensorboard").iterdir())
    assert len(files) == 1
    assert socket.gethostname() not in files[0].name.split(".")
    assert socket.gethostname().encode() not in files[0].read_bytes()


def test_run_that_goes_on_writes_no_round_twice(tracked: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first session ends behind a round that its checkpoint does not have."""
    monkeypatch.setattr(Checkpoint, "due", lambda self, size: True)
    monkeypatch.setattr(loop, "_save", _first_only(loop._save))
    changed = tracked.protocol.model_copy(
        update={"training": tracked.protocol.training.model_copy(update={"steps": 8})}
    )
    job = replace(tracked, protocol=changed)

    def interrupted(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_test(job, interrupted)
    assert [step for step, _ in events_in(job.folder)["lr"]] == [2, 4, 6]
    taken: list[int] = []
    train_and_test(job, lambda done, total: taken.append(done))
    assert taken[0] == 3  # from behind the first round
    events, history = events_in(job.folder), history_of(job.folder)
    assert {name: events[name] for name in history} == approximately(history)
    assert [step for step, _ in events["lr"]] == [2, 4, 6, 8]


def _first_only(save: Callable[..., None]) -> Callable[..., None]:
    calls = iter([save])
    return lambda *arguments: next(calls, lambda *_: None)(*arguments)


@pytest.mark.parametrize("where", ["__init__", "write", "close"])
def test_tracker_that_crashes_fails_no_run(
    tracked: TrainJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"tensorboard.summary.writer.record_writer.RecordWriter.{where}", crash)
    assert execute(tracked).status == "ok"
    assert (tracked.folder / RECORD).is_file()
    out = capsys.readouterr().out
    assert out.count("tracker: OSError: [Errno 28] No space left on device; the run goes on without it") == 1


def test_hyperparameters_are_written(tracked: TrainJob) -> None:
    execute(tracked)
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(tracked.folder / "tensorboard"))
    events.Reload()
    content = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"tinynet" in content
    assert b"adam" in content


@pytest.mark.slow
def test_command_line_writes_events_where_asked(call: Call, measured: Measured) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install -e '.[trackers]'")
    measured("with")
    code, _, err = call(*tiny_run("--tracker", "tensorboard", "--study", "with"))
    assert code == 0, err
    assert "omc-syn/image/miou" in events_in(Path("results/with/runs/omc-syn/tinynet/0"))


def test_missing_package_is_reported_before_anything_runs(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else installed(name))
    code, out, err = call(*tiny_run("--tracker", "tensorboard"))
    assert (code, out) == (2, "")
    assert "--tracker tensorboard: tensorboard is not installed; pip install -e '.[trackers]'" in err
    assert not Path("results").exists()


def test_unknown_tracker_is_refused(call: Call) -> None:
    code, _, err = call(*tiny_run("--tracker", "wandb"))
    assert code == 2
    assert "--tracker" in err
