"""The protocol ``open`` from the command line: rows are blocks, also across two chips and from a stand-in."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.benchmark.conftest import TINY, Call, Measured
from tests.benchmark.data.folder_makers import add_pair, picture

SMALL = ("input.size=64", "training.steps=4", "training.validate_every=2", "data.standin_images=6", "split.test=0.3")


def open_run(*flags: str) -> list[str]:
    settings = [word for setting in SMALL for word in ("--set", setting)]
    fixed = ("--protocol", "open", "--device", "cpu", "--threads", "1", "--repeats", "1")
    return ["run", "--models", f"{TINY}:TinyNet", *fixed, *settings, *flags]


def rows_of(folder: Path, test: str) -> list[dict[str, str]]:
    with (folder / f"images.{test}.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def scans(call: Call, measured: Measured) -> None:  # `call` changes to an empty folder
    measured("open", side=64)
    for seed, name in enumerate(("chip", "other")):
        add_pair(Path("data") / name, name, picture(seed, 128, 640))


@pytest.mark.usefixtures("in_process", "scans")
def test_study_of_one_frame_counts_its_block_and_reproduces(call: Call) -> None:
    code, _, err = call(*open_run("--datasets", "chip"))
    assert code == 0, err
    folder = Path("results/open/runs/chip/tinynet/0")
    (row,) = rows_of(folder, "chip")
    assert row["image"].startswith("chip_r0-1_c")
    assert sum(int(row[term]) for term in ("tp", "fp", "fn", "tn")) == 128 * 128
    assert json.loads((folder / "record.json").read_text())["training"]["test_images"] == 1
    with Path("results/open/references/chip.otsu.csv").open() as file:
        assert [other["image"] for other in csv.DictReader(file)] == [row["image"]]
    assert Path("results/open/report/index.html").is_file()
    code, out, err = call(
        "run", "--reproduce", str(folder / "record.json"), "--models", f"{TINY}:TinyNet", "--device", "cpu"
    )
    assert code == 0, out + err


@pytest.mark.usefixtures("in_process", "scans")
def test_chips_are_left_out_in_turn_and_stand_ins_train_for_both(call: Call) -> None:
    code, _, err = call(*open_run("--datasets", "chip,other", "--leave-one-out"))
    assert code == 0, err
    for train, test in (("chip", "other"), ("other", "chip")):
        (row,) = rows_of(Path("results/open/runs") / train / "tinynet/0", test)
        assert row["image"].startswith(f"{test}_r0-1_c")
    code, _, err = call(*open_run("--train", "omc-syn", "--test", "chip,other"))
    assert code == 0, err
    for test in ("chip", "other"):
        assert len(rows_of(Path("results/open/runs/omc-syn/tinynet/0"), test)) == 1
