"""The table of training costs, against figures worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.records.run_record import Failure, TrainingFacts
from benchmark.records.store import RECORD, read_record
from benchmark.report.read import read_study
from benchmark.report.tables import training_table
from benchmark.report.tables.render import Block, to_markdown
from tests.benchmark.report import fake

FACTS = TrainingFacts(
    rounds=2, steps=60, best_round=1, best_validation_loss=0.2, seconds=40.0, images_per_second=8.0, train_images=48,
    validation_images=8, test_images=8, split="s",
)  # fmt: skip
CPU = {"cpu": "AMD EPYC", "device": "cpu", "threads": 1, "compute_dtype": "bfloat16"}
GPU = {"cpu": "AMD EPYC", "gpu": "NVIDIA H100", "device": "cuda:0", "threads": 16, "compute_dtype": "float32"}


def trained(
    folder: Path,
    model: str,
    repeat: int = 0,
    dataset: str = "omc-syn",
    environment: dict[str, object] = CPU,
    **facts: object,
) -> None:
    run = fake.write_run(folder, model, [dataset], repeat, fake.counts(0.9, fake.random_of(model, repeat)))
    record = read_record(run / RECORD)
    assert record is not None
    changed = {"training": FACTS.model_copy(update=facts), "environment": environment}
    (run / RECORD).write_bytes(record.model_copy(update=changed).to_json())


def blocks(folder: Path) -> tuple[Block, ...]:
    return training_table.cost(read_study(folder)).blocks


def means(block: Block, model: str) -> dict[str, float]:
    (row,) = (row for row in block.rows if row.key == model)
    return {key: cell.mean for key, cell in row.cells.items()}


def test_counted_steps_become_passes_over_the_images(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)  # quick: batch 4, validated every 30 steps
    trained(tmp_path, "unet")
    # 48 images in batches of 4: 12 steps an epoch, so 60 steps are 5 epochs and the first validation comes after 2.5.
    assert means(blocks(tmp_path)[0], "unet") == {
        "epochs": 5.0, "best_epoch": 2.5, "steps": 60, "seconds_per_epoch": 8.0, "images_per_second": 8.0,
        "seconds": 40.0, "device_seconds": 40.0,
    }  # fmt: skip


def test_epoch_that_ends_in_a_smaller_batch_is_one_epoch(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path, "training.steps=none", "training.validate_every=none", "training.batch=10")
    trained(tmp_path, "unet", rounds=7, steps=35, best_round=3, seconds=14.0)
    result = means(blocks(tmp_path)[0], "unet")
    assert (result["epochs"], result["best_epoch"], result["seconds_per_epoch"]) == (7.0, 3.0, 2.0)


def test_last_round_that_is_cut_short_ends_with_the_training(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path, "training.validate_every=50")
    trained(tmp_path, "unet", best_round=2)
    assert means(blocks(tmp_path)[0], "unet")["best_epoch"] == 5.0


def test_repeats_are_averaged_and_their_time_summed(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for repeat, seconds in enumerate((40.0, 50.0, 60.0)):
        trained(tmp_path, "unet", repeat, seconds=seconds)
    (block,) = blocks(tmp_path)
    cells = block.rows[0].cells
    assert (cells["seconds"].mean, cells["seconds"].std, cells["seconds"].n) == (50.0, 10.0, 3)
    assert (cells["device_seconds"].mean, cells["device_seconds"].std, cells["device_seconds"].n) == (150.0, None, 3)
    assert "n = 3 repeats (std with ddof = 1)" in block.conventions[0]


@pytest.mark.parametrize(
    "other", [GPU, {**CPU, "threads": 2}, {**CPU, "compute_dtype": "float32"}, {**CPU, "execution": "compile"}]
)
def test_times_of_different_devices_share_no_column(tmp_path: Path, other: dict[str, object]) -> None:
    fake.write_protocol(tmp_path)
    trained(tmp_path, "unet", 0)
    trained(tmp_path, "unet", 1, environment=other)
    result = blocks(tmp_path)
    assert [len(block.rows) for block in result] == [1, 1]
    assert {row.cells["seconds"].n for block in result for row in block.rows} == {1}
    assert len({block.key for block in result}) == 2


def test_what_was_replayed_says_so_and_eager_stands_with_what_older_releases_made(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    trained(tmp_path, "unet", 0, environment=GPU)
    trained(tmp_path, "unet", 1, environment={**GPU, "execution": "eager", "execution_reason": "it waits"})
    trained(tmp_path, "unet", 2, environment={**GPU, "execution": "graph"})
    plain, replayed = blocks(tmp_path)
    assert plain.rows[0].cells["seconds"].n == 2
    assert replayed.rows[0].cells["seconds"].n == 1
    assert replayed.title == "Training cost on omc-syn, NVIDIA H100, CUDA graph"
    assert "float32, CUDA graph, 16 threads per run" in " ".join(replayed.conventions)
    assert (replayed.facts["execution"], "execution" in plain.facts) == ("CUDA graph", False)


def test_datasets_have_the_order_of_the_other_tables(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for dataset in ("miic-syn", "omc-syn"):
        trained(tmp_path, "unet", dataset=dataset)
    assert [block.facts["train"] for block in blocks(tmp_path)] == ["omc-syn", "miic-syn"]


def test_run_that_failed_costs_nothing_here(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    trained(tmp_path, "unet")
    fake.write_run(tmp_path, "fcn", ["omc-syn"], 0, None, Failure(kind="error", message="no"))
    assert [row.key for row in blocks(tmp_path)[0].rows] == ["unet"]


def test_table_names_the_processor(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    trained(tmp_path, "unet")
    assert "AMD EPYC" in to_markdown(training_table.cost(read_study(tmp_path)))
