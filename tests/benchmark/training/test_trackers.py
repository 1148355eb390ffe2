"""Files of the trackers, read back."""

from __future__ import annotations

import csv
import getpass
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.records.run_record import Record
from benchmark.records.store import RECORD
from benchmark.runs import train
from benchmark.runs.jobs import TrainJob
from benchmark.runs.train import train_and_test
from benchmark.training import loop
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.trackers import Tracker, TrackerName
from tests.benchmark.conftest import Call, Measured, tiny_run
from tests.benchmark.training.tracker_files import Events, read, wandb_records

MakeJob = Callable[..., TrainJob]


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


TRACKERS: tuple[TrackerName, ...] = get_args(TrackerName)


def need(tracker: str) -> None:
    pytest.importorskip(tracker, reason=f"needs {tracker}: pip install -e '.[trackers]'")


@pytest.fixture(params=TRACKERS)
def tracked(
    small: Protocol, make_job: MakeJob, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> TrainJob:
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb cache"))
    need(request.param)
    return replace(make_job(small), tracker=request.param)


def events_in(job: TrainJob) -> Events:
    return read(job.folder / str(job.tracker))[0]


def execute(job: TrainJob) -> Record:
    return train_and_test(job, lambda *_: None)


def test_every_round_and_every_metric_is_there_once(tracked: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    best = loop.Round(2, 4, 0.5, 0.5, 1e-3, 1.0, 1.0)
    trained = loop.train
    monkeypatch.setattr(train, "train", lambda *arguments: replace(trained(*arguments), best=best))
    record = execute(tracked)
    history = history_of(tracked.folder)
    assert [step for step, _ in history["train_loss"]] == [2, 4]
    assert events_in(tracked) == approximately(history | metrics_of(record))
    assert "omc-syn/image/miou" in metrics_of(record)
    settings = read(tracked.folder / str(tracked.tracker))[1]
    assert (settings["model"], settings["optimizer"]) == ("tinynet", "adam")
    assert float(settings["repeat"]) == 0


def test_same_numbers_come_out_with_and_without(small: Protocol, make_job: MakeJob, tracked: TrainJob) -> None:
    other = make_job(small, name="other")
    assert execute(tracked).metrics == execute(other).metrics
    assert tracked.key == other.key
    assert {path.name for path in tracked.folder.iterdir()} - {path.name for path in other.folder.iterdir()} == {
        tracked.tracker
    }


def test_files_name_no_machine_and_no_folder(
    tracked: TrainJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "somebodys-machine")
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    execute(tracked)
    files = [path for path in (tracked.folder / str(tracked.tracker)).rglob("*") if path.is_file()]
    assert len(files) == 1 or tracked.tracker == "mlflow"
    for file in files:
        assert "somebody" not in file.name
        assert b"somebody" not in file.read_bytes()
        assert str(tmp_path).encode() not in file.read_bytes()
    if tracked.tracker == "wandb":  # its process finds the machine's name in another way
        runs = [record.run for record in wandb_records(tracked.folder / "wandb") if record.HasField("run")]
        assert {run.host for run in runs} == {""}


def test_run_that_goes_on_writes_no_round_twice(tracked: TrainJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first session ends behind a round that its checkpoint does not have."""
    due = iter([True])
    monkeypatch.setattr(Checkpoint, "due", lambda self, size: next(due, False))
    changed = tracked.protocol.model_copy(
        update={"training": tracked.protocol.training.model_copy(update={"steps": 8})}
    )
    job = replace(tracked, protocol=changed)

    def interrupted(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_and_test(job, interrupted)
    assert [step for step, _ in events_in(job)["lr"]] == [2, 4, 6]
    taken: list[int] = []
    train_and_test(job, lambda done, total: taken.append(done))
    assert taken[0] == 3  # from behind the first round
    events, history = events_in(job), history_of(job.folder)
    assert {name: events[name] for name in history} == approximately(history)
    assert [step for step, _ in events["lr"]] == [2, 4, 6, 8]


CRASHES = {
    "tensorboard": [
        f"tensorboard.summary.writer.record_writer.RecordWriter.{f}" for f in ("__init__", "write", "close")
    ],
    "mlflow": [f"mlflow.store.tracking.file_store.FileStore.{f}" for f in ("__init__", "log_batch", "update_run_info")],
    "wandb": ["wandb.init", "wandb.sdk.wandb_run.Run.log", "wandb.sdk.wandb_run.Run.finish"],
}


@pytest.mark.parametrize(
    ("tracked", "where"), [(name, where) for name in TRACKERS for where in CRASHES[name]], indirect=["tracked"]
)
def test_tracker_that_crashes_fails_no_run(
    tracked: TrainJob, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(where, crash)
    assert execute(tracked).status == "ok"
    assert (tracked.folder / RECORD).is_file()
    out = capsys.readouterr().out
    assert out.count("tracker: OSError: [Errno 28] No space left on device; the run goes on without it") == 1


def test_stores_of_mlflow_can_be_copied_into_one(small: Protocol, make_job: MakeJob, tmp_path: Path) -> None:
    need("mlflow")
    from mlflow.entities import ViewType
    from mlflow.store.tracking.file_store import FileStore

    for name in ("a", "b"):
        execute(job := replace(make_job(small, name=name), tracker="mlflow"))
        shutil.copytree(job.folder / "mlflow", tmp_path / "all", dirs_exist_ok=True)
    runs = FileStore(str(tmp_path / "all")).search_runs(["0"], "", ViewType.ALL)
    assert {run.info.run_name for run in runs} == {"a/omc-syn/tinynet/0", "b/omc-syn/tinynet/0"}


def test_wandb_reaches_no_server_even_if_variables_ask_for_it(
    small: Protocol, make_job: MakeJob, tmp_path: Path
) -> None:
    need("wandb")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        code = (
            "from pathlib import Path; from benchmark.training.trackers import Tracker\n"
            f"with Tracker('wandb', Path({str(tmp_path / 'run')!r}), 'study'): pass"
        )
        asked = {
            "WANDB_MODE": "online",
            "WANDB_API_KEY": "a" * 40,
            "WANDB_BASE_URL": f"http://127.0.0.1:{server.getsockname()[1]}",
            "WANDB_CACHE_DIR": str(tmp_path / "cache"),
            "WANDB_INIT_TIMEOUT": "5",
        }
        subprocess.run([sys.executable, "-c", code], env={**os.environ, **asked}, check=True, timeout=120)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert list((tmp_path / "run/wandb").glob("offline-run-*/*.wandb"))


def test_file_of_an_encoder_is_named_without_its_place(tracked: TrainJob, tmp_path: Path) -> None:
    (tmp_path / "encoder.pth").write_bytes(b"one")
    protocol = load_protocol("quick", [f"training.encoder_weights={tmp_path / 'encoder.pth'}"])
    record = execute(replace(tracked, tracker=None))
    with Tracker(tracked.tracker, tmp_path / "run", "study") as tracker:
        tracker.result(record, protocol, 1)
    settings = read(tmp_path / "run" / str(tracked.tracker))[1]
    assert settings["encoder_weights"] == f"encoder.pth ({protocol.extensions['encoder_weights']})"


@pytest.mark.slow
@pytest.mark.parametrize("tracker", TRACKERS)
def test_command_line_writes_files_where_asked(call: Call, measured: Measured, tracker: str) -> None:
    need(tracker)
    measured("with")
    code, _, err = call(*tiny_run("--tracker", tracker, "--study", "with"))
    assert code == 0, err
    assert "omc-syn/image/miou" in read(Path("results/with/runs/omc-syn/tinynet/0") / tracker)[0]


@pytest.mark.parametrize("tracker", TRACKERS)
def test_missing_package_is_reported_before_anything_runs(
    call: Call, monkeypatch: pytest.MonkeyPatch, tracker: str
) -> None:
    installed = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == tracker else installed(name))
    code, out, err = call(*tiny_run("--tracker", tracker))
    assert (code, out) == (2, "")
    assert f"--tracker {tracker}: {tracker} is not installed; pip install -e '.[trackers]'" in err
    assert not Path("results").exists()


def test_unknown_tracker_is_refused(call: Call) -> None:
    code, _, err = call(*tiny_run("--tracker", "comet"))
    assert code == 2
    assert "--tracker" in err
