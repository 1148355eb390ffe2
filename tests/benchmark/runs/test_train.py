"""Tests one run: its record, its files, and equal bytes for equal jobs."""

from __future__ import annotations

import csv
import getpass
import os
import re
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import benchmark
from benchmark.config import code_identity, registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import Batch, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices import precision
from benchmark.evaluation.counts import counts_csv, reduce_counts
from benchmark.evaluation.evaluate import evaluate
from benchmark.records.history import history_csv, read_rounds
from benchmark.records.run_record import Record
from benchmark.records.store import RECORD, WEIGHTS, Store
from benchmark.runs import train
from benchmark.runs.cost import Meter
from benchmark.runs.jobs import TrainJob
from benchmark.runs.perform import perform_claimed
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.training import loop
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.fake_gpu import FakeGPU, OnTheCPU, fake_gpu

__all__ = ["fake_gpu"]

MakeJob = Callable[..., TrainJob]


def train_job(job: TrainJob) -> tuple[Record, Path]:
    record = train_and_test(job, lambda *_: None)
    return record, Store(job.study).run_folder(record.train, record.model, record.repeat)


def test_run_leaves_its_record_its_counts_its_history_and_its_weights(small: Protocol, make_job: MakeJob) -> None:
    job = make_job(small)
    record, folder = train_job(job)
    assert {path.name for path in folder.iterdir()} == {
        "record.json",
        "images.omc-syn.csv",
        "panels.omc-syn.npz",
        "history.csv",
        "best.safetensors",
    }
    assert Store(job.study).read_record(("omc-syn",), "tinynet", 0) == record
    assert record.status == "ok"
    assert record.training is not None
    assert (record.training.steps, record.training.test_images) == (4, 2)
    with (folder / "images.omc-syn.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(int(row["tp"]) + int(row["fp"]) + int(row["fn"]) + int(row["tn"]) == 32 * 32 for row in rows)
    pooled = sum(int(row["tp"]) for row in rows) / sum(int(row["tp"]) + int(row["fp"]) + int(row["fn"]) for row in rows)
    assert record.metrics["omc-syn"]["pooled"]["fg_iou"] == pytest.approx(pooled, rel=1e-12)
    mean = sum(float(row["miou"]) for row in rows) / 2
    assert record.metrics["omc-syn"]["image"]["miou"] == pytest.approx(mean, rel=1e-12)


def test_history_grows_by_each_round_and_goes_on_after_an_interruption(small: Protocol, make_job: MakeJob) -> None:
    job = make_job(small)
    file, seen = job.folder / "history.csv", []

    def stop_at(last: int) -> None:
        def on_step(done: int, total: int) -> None:
            seen.append((done, [row.steps for row in read_rounds(job.folder)]))
            if done == last:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            train_and_test(job, on_step)

    stop_at(3)
    assert seen == [(1, []), (2, []), (3, [2])]
    before = file.read_bytes()
    assert (job.folder / "last.pt").is_file()
    train_and_test(job, lambda *_: None)
    assert file.read_bytes().startswith(before)
    assert [row.steps for row in read_rounds(job.folder)] == [2, 4]
    assert history_csv(read_rounds(job.folder)) == file.read_bytes()


def test_broken_record_of_another_repeat_does_not_replace_a_finished_one(small: Protocol, make_job: MakeJob) -> None:
    job, other = (make_job(small, repeat=repeat) for repeat in (0, 1))
    other.folder.mkdir(parents=True)
    for name in (RECORD, WEIGHTS):
        (other.folder / name).write_bytes(b"{")
    record = perform_claimed(job, lambda *_: None)
    assert isinstance(record, Record)
    assert Store(job.study).read_record(("omc-syn",), "tinynet", 0) == record


def test_record_names_no_place_and_no_person(small: Protocol, make_job: MakeJob) -> None:
    job = make_job(small)
    _, folder = train_job(job)
    text = (folder / "record.json").read_text()
    (packages,) = (job.study / "environment").iterdir()
    for place in (job.study.parent, job.cache, Path.home(), Path.cwd()):
        assert str(place) not in text + packages.read_text()
    for name in (socket.gethostname(), getpass.getuser()):
        assert not re.search(rf"\b{re.escape(name)}\b", text)


def test_record_says_with_what_it_was_made_and_what_that_took(small: Protocol, make_job: MakeJob) -> None:
    job = make_job(small)
    started = time.perf_counter(), time.process_time()
    record, _ = train_job(job)
    wall, processor = time.perf_counter() - started[0], time.process_time() - started[1]
    facts = record.environment
    assert facts["code"]["version"] == benchmark.__version__
    assert (facts["threads"], facts["torch_threads"], facts["determinism"]) == (1, 1, "seeded")
    listed = Store(job.study).packages_file(facts["package_list"]).read_text().splitlines()
    assert f"numpy=={np.__version__}" in listed
    cost = record.cost
    assert cost is not None
    assert record.training is not None
    assert record.training.seconds + cost.test_seconds < cost.wall_seconds < wall
    assert 0 < cost.device_seconds < processor
    assert cost.earlier_seconds == 0
    assert (cost.peak_gpu_bytes, cost.energy_joules) == (None, None)


def test_studies_share_a_list_of_packages_but_not_a_file(small: Protocol, make_job: MakeJob) -> None:
    jobs = [make_job(small, repeat=repeat, name=name) for name in ("a", "b") for repeat in (0, 1)]
    records = [train_job(job)[0] for job in jobs]
    assert len({record.environment["package_list"] for record in records}) == 1
    assert [len(list((job.study / "environment").iterdir())) for job in jobs] == [1, 1, 1, 1]


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="this system never forgets a peak")
def test_peak_of_memory_is_the_run_s_own(small: Protocol, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def peak() -> int:
        record, _ = train_job(make_job(small, name=f"study{len(peaks)}"))
        assert record.cost is not None
        return record.cost.peak_host_bytes

    peaks: list[int] = []
    peaks.append(peak())
    tested = train.evaluate

    def hungry(*arguments: Any) -> Any:
        torch.ones(256 * 2**18).sum()  # 256 MiB
        return tested(*arguments)

    monkeypatch.setattr(train, "evaluate", hungry)
    peaks.append(peak())
    monkeypatch.undo()
    peaks.append(peak())
    assert peaks[1] - peaks[0] > 200 * 2**20
    assert peaks[1] - peaks[2] > 200 * 2**20


def test_failed_run_says_with_what_it_was_made_too(small: Protocol, make_study: Callable[..., Study]) -> None:
    (job, *_) = make_plan(make_study(small, "Raises")).todo
    perform_claimed(job, lambda *_: None)
    record = Store(job.study).read_record(("omc-syn",), "raises", 0)
    assert record is not None
    assert (record.status, record.cost) == ("failed", None)
    assert record.environment["code"]["version"] == benchmark.__version__
    assert Store(job.study).packages_file(record.environment["package_list"]).is_file()


def test_two_studies_get_the_same_bytes(small: Protocol, make_job: MakeJob) -> None:
    (one, first), (two, second) = (train_job(make_job(small, name=name)) for name in ("a", "b"))
    assert one.metrics == two.metrics
    for name in ("images.omc-syn.csv", "panels.omc-syn.npz", WEIGHTS):
        assert (first / name).read_bytes() == (second / name).read_bytes()


@pytest.mark.parametrize(
    "model", ["esnet", *(pytest.param(name, marks=pytest.mark.slow) for name in ("letnet", "manet"))]
)
def test_networks_with_dropout_attention_or_pooling_get_the_same_bytes_in_bfloat16_too(
    make_job: MakeJob, model: str
) -> None:
    small = load_protocol("quick", [*SMALL, "training.mixed_precision=bfloat16", "training.steps=2"])
    entry = registry.models()[model]
    jobs = [replace(make_job(small, name=name), entry=entry) for name in ("a", "b")]
    parts = jobs[0].key_parts.model_copy(update={"model": code_identity.identity(entry)})
    (one, first), (two, second) = (train_job(replace(job, key_parts=parts)) for job in jobs)
    assert one.metrics == two.metrics
    assert (first / WEIGHTS).read_bytes() == (second / WEIGHTS).read_bytes()


def test_repeats_start_from_other_weights_and_orders_but_share_the_split(small: Protocol, make_job: MakeJob) -> None:
    (one, first), (two, second) = (train_job(make_job(small, repeat=repeat, name=str(repeat))) for repeat in (0, 1))
    assert one.training is not None
    assert two.training is not None
    assert one.training.split == two.training.split
    assert (first / WEIGHTS).read_bytes() != (second / WEIGHTS).read_bytes()


def test_stored_weights_give_the_stored_metrics(small: Protocol, make_job: MakeJob, pack: Pack) -> None:
    job = make_job(small)
    record, folder = train_job(job)
    network = job.entry.build()
    network.load_state_dict(load_file(folder / WEIGHTS))
    cpu = torch.device("cpu")
    (rows,) = evaluate(precision.to_device(network, cpu), pack, pack.divide(small).test, small, cpu).values()
    assert reduce_counts(rows) == record.metrics["omc-syn"]
    assert counts_csv(rows) == (folder / "images.omc-syn.csv").read_bytes()


def test_whole_tiles_are_tested_and_windows_of_the_inputs_size_validated(
    small: Protocol, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    sides = []

    def spy(pack: Pack, indices: Sequence[int], size: int, *rest: Any) -> Iterator[Batch]:
        sides.append(size)
        return evaluation_batches(pack, indices, size, *rest)

    monkeypatch.setattr(train, "evaluation_batches", spy)
    _, folder = train_job(make_job(load_protocol("quick", [*SMALL, "evaluation.window=tile"])))
    assert set(sides) == {32}
    with (folder / "images.omc-syn.csv").open() as file:
        assert all(sum(int(row[n]) for n in ("tp", "fp", "fn", "tn")) == 64 * 64 for row in csv.DictReader(file))


def test_only_the_weights_of_the_best_repeat_are_kept(small: Protocol, make_job: MakeJob) -> None:
    done = [train_job(make_job(small, repeat=repeat)) for repeat in range(3)]
    losses = [record.training.best_validation_loss for record, _ in done if record.training is not None]
    kept = [(folder / WEIGHTS).is_file() for _, folder in done]
    assert kept == [loss == min(losses) for loss in losses if loss is not None]


def test_one_of_two_simultaneous_repeats_keeps_its_weights(small: Protocol, make_job: MakeJob) -> None:
    # As if both had written their weights and records before either looked at the other.
    jobs = [replace(make_job(small, repeat=repeat), keep_weights="all") for repeat in (0, 1)]
    done = [train_job(job) for job in jobs]
    losses = [record.training.best_validation_loss or 0.0 for record, _ in done if record.training is not None]
    for job in jobs:
        Store(job.study).keep_best_weights(("omc-syn",), "tinynet")
    assert [(folder / WEIGHTS).is_file() for _, folder in done] == [loss == min(losses) for loss in losses]


@pytest.mark.parametrize(("keep", "expected"), [("all", True), ("none", False)])
def test_keeping_all_or_no_weights(small: Protocol, make_job: MakeJob, keep: str, expected: bool) -> None:
    for repeat in (0, 1):
        _, folder = train_job(replace(make_job(small, repeat=repeat), keep_weights=keep))
        assert (folder / WEIGHTS).is_file() is expected


def test_pretrained_encoder_where_there_is_none_is_refused(small: Protocol, make_job: MakeJob) -> None:
    protocol = small.model_copy(update={"training": small.training.model_copy(update={"encoder_weights": "imagenet"})})
    with pytest.raises(UserError, match="tinynet: has no pretrained encoder"):
        train.build_network(make_job(protocol))


@pytest.mark.parametrize("name", ["manet", "smp/linknet/resnet18"])
def test_pretrained_encoder_that_cannot_be_downloaded_is_one_message(
    small: Protocol, make_job: MakeJob, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: object, **__: object) -> None:
        raise ConnectionError("no way\nto the hub")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    protocol = small.model_copy(update={"training": small.training.model_copy(update={"encoder_weights": "imagenet"})})
    job = replace(make_job(protocol), entry=registry.select(name, figures=False)[0])
    with pytest.raises(UserError, match=r"its pretrained encoder cannot be loaded \(.*no way to the hub.*\); connect"):
        train.build_network(job)


@pytest.mark.parametrize(
    ("device", "settings", "told"),
    [
        ("cpu", [], r"\(--workers\).*--set training\.micro_batch=2 in place of 4"),
        ("cuda:1", [], r"\(--per-gpu\).*--set training\.micro_batch=2 in place of 4"),
        ("cpu", ["training.batch=8", "training.micro_batch=6"], r"--set training\.micro_batch=3 in place of 6"),
        (
            *("cpu", ["training.micro_batch_by_dataset.omc=3"]),
            r"--set training\.micro_batch_by_dataset\.omc=1 in place of 3",
        ),
        ("cpu", ["training.micro_batch=1"], r"\(--workers\), or take a smaller --set input\.size$"),
    ],
)
def test_memory_advice_names_flags_and_half_of_the_images(
    make_job: MakeJob, device: str, settings: list[str], told: str
) -> None:
    advice = make_job(load_protocol("quick", [*SMALL, *settings])).on(device).memory_advice
    assert re.search(told, advice)
    if "--set training" in advice:  # it can be typed as it stands, and halves
        change = advice.partition("--set ")[2].split()[0]
        changed = load_protocol("quick", [*SMALL, *settings, change]).training
        before = load_protocol("quick", [*SMALL, *settings]).training
        assert changed.micro_batch_for("omc-syn") == before.micro_batch_for("omc-syn") // 2
        assert changed.batch == before.batch


def test_run_out_of_memory_is_a_row_that_says_what_helps_and_changes_no_batch(
    small: Protocol, make_job: MakeJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    job, tries = make_job(small), []

    def exhausted(network: object, batches: loop.TrainingBatches, *_: object) -> None:
        tries.append((batches.batch, batches.micro_batch))
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(train, "train", exhausted)
    perform_claimed(job, lambda *_: None)
    assert tries == [(4, 4)]
    record = Store(job.study).read_record(("omc-syn",), "tinynet", 0)
    assert record is not None
    assert record.failure is not None
    assert record.failure.kind == "out_of_memory"
    assert job.memory_advice in record.failure.message
    assert "Tried to allocate 2.00 GiB" in record.failure.message


def test_run_on_a_gpu_can_be_the_first_use_of_the_gpu_in_a_process(
    small: Protocol, make_job: MakeJob, fake_gpu: FakeGPU
) -> None:
    job = make_job(small).on("cuda:0")
    assert not fake_gpu.initialised
    with OnTheCPU():
        record, _ = train_job(job)
    assert record.status == "ok"
    assert record.environment["gpu"] == "NVIDIA GeForce RTX 4060 Ti"
    assert record.cost is not None
    assert record.cost.device_seconds == record.cost.wall_seconds


def test_memory_held_before_a_run_is_not_in_its_peak(fake_gpu: FakeGPU) -> None:
    meter = Meter(torch.device("cuda:0"))
    fake_gpu.peak += 5 << 20
    cost = meter.cost(test_seconds=0, earlier_seconds=0)
    assert (cost.peak_gpu_bytes, cost.reserved_gpu_bytes) == (5 << 20, 10 << 20)
    fake_gpu.held = fake_gpu.peak = 40 << 20  # left by the run, with cuBLAS's workspace
    again = Meter(torch.device("cuda:0"))
    fake_gpu.peak += 5 << 20
    assert again.cost(test_seconds=0, earlier_seconds=0).peak_gpu_bytes == 5 << 20


@pytest.mark.gpu
def test_run_on_a_gpu(small: Protocol, make_job: MakeJob) -> None:
    record, _ = train_job(replace(make_job(small), device="cuda:0"))
    assert (record.status, bool(record.environment["gpu"]), bool(record.environment["cudnn"])) == ("ok", True, True)
    assert record.cost is not None
    assert record.cost.peak_gpu_bytes
    assert record.cost.device_seconds == record.cost.wall_seconds
