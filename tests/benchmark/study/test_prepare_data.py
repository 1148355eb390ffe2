"""Tests the files that all runs of a study share."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.tasks import Task
from benchmark.executors.events import Event, Note
from benchmark.records import claims
from benchmark.records.store import Shared
from benchmark.study.prepare_data import prepare
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL
from tests.benchmark.data.folder_makers import write_pairs
from tests.benchmark.pretend import MakeStudy, alone, begin_and_stop, contents, do


def test_lists_of_images_of_each_part_are_written(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    do(study)
    lists = json.loads(study.store.split_file("omc-syn").read_text("utf-8"))
    assert [len(lists[part]) for part in ("train", "val", "test")] == [6, 2, 2]
    assert len({name for part in ("train", "val", "test") for name in lists[part]}) == 10
    assert lists["fingerprint"] == study.sources[0].fingerprint


def test_rows_of_another_split_are_made_again(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    begin_and_stop(study)
    file, before = study.store.reference_file("omc-syn", "otsu"), contents(study.folder)
    other = make_study(load_protocol("quick", [*SMALL, "seed=5"]))
    do(other, replace_stale=True)
    assert file.read_bytes() != before[file]
    tested = json.loads(other.store.split_file("omc-syn").read_text())["test"]
    assert sorted(line.split(",")[0] for line in file.read_text().splitlines()[1:]) == tested


@pytest.mark.parametrize("field", ["fingerprint", "protocol", "behaviour"])
def test_shared_files_of_other_data_or_settings_are_made_again(
    small: Protocol, make_study: MakeStudy, field: str
) -> None:
    study = make_study(small)
    begin_and_stop(study)
    after = contents(study.folder / "references")
    split = study.store.split_file("omc-syn")
    split.write_text(json.dumps(json.loads(split.read_text()) | {field: 0 if field == "behaviour" else "other"}))
    for file in after:
        file.write_bytes(b"image,group,tp\nof,another,0\n")
    do(study)
    assert contents(study.folder / "references") == after
    assert study.store.shared("omc-syn") == Shared.of(small, study.sources[0].fingerprint)


def test_shared_files_of_runs_under_way_with_other_data_stay(small: Protocol, make_study: MakeStudy) -> None:
    study = make_study(small)
    begin_and_stop(study)
    before = contents(study.folder)
    other = make_study(small)
    other.tasks = [alone(replace(study.sources[0], fingerprint="something else"))]
    refused = pytest.raises(UserError, match=r"omc-syn: another process is doing omc-syn.tinynet.0 with other content")
    with claims.acquire(study.store.run_folder(("omc-syn",), "tinynet", 0)), refused:  # type: ignore[union-attr]
        do(other)
    assert contents(study.folder) == before


def test_run_says_which_folders_among_images_are_not_searched(
    small: Protocol, make_study: MakeStudy, tmp_path: Path
) -> None:
    write_pairs(tmp_path / "data/mine", 10)
    (tmp_path / "data/mine/image/more").mkdir()
    (source,) = resolve("mine", tmp_path / "data", small, HashCache(None))
    study = make_study(small)
    study.tasks, study.cache = [alone(source)], tmp_path / "cache"
    notes: list[Event] = []
    prepare(study, notes.append, {source.name})
    assert Note("mine", "1 folder not searched: image/more") in notes


def test_study_that_tests_on_training_images_of_another_dataset_is_refused(
    small: Protocol, make_study: MakeStudy, tmp_path: Path
) -> None:
    for name in ("mine", "theirs"):
        write_pairs(tmp_path / "data" / name, 10)
    mine, theirs = resolve("mine,theirs", tmp_path / "data", small, HashCache(None))
    study = make_study(small)
    study.tasks, study.cache = [Task((mine,), (theirs,))], tmp_path / "cache"
    with pytest.raises(UserError, match="of theirs that look like training images of mine"):
        prepare(study, lambda _: None, {"mine", "theirs"})
