"""Packs studies and unpacks them: every byte comes back, and nothing is lost on the way."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmark.records import claims
from benchmark.records.history import Round, history_csv, read_rounds
from benchmark.records.packed_study import PACKED, is_packed, read_stored, stored_files
from benchmark.records.packing import pack_study, unpack_study
from benchmark.records.run_record import Failure
from benchmark.records.store import CHECKPOINT, RECORD, WEIGHTS, BrokenRecordError, Store
from benchmark.utils.errors import UserError
from benchmark.utils.files import TooLargeError
from tests.benchmark.report import fake

RUN = "runs/omc-syn/unet/0"


def files(folder: Path) -> dict[str, bytes]:
    """Return all files below a folder by name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Four runs, one of them failed, with weights, a history, kept images and a file that belongs to nobody."""
    folder = fake.write_study(tmp_path / "quick", ["unet", "fcn"], ["omc-syn"], repeats=2)
    fake.write_run(folder, "fcn", ["omc-syn"], 1, None, Failure(kind="nan_loss", message='said "NaN"\n}\n"a": {'))
    (folder / RUN / "history.csv").write_bytes(history_csv([Round(1, 30, 0.5, None, 0.1, 1.0, 1.0)]))
    (folder / RUN / "panels.omc-syn.npz").write_bytes(b"PK\0\xff")
    (folder / RUN / WEIGHTS).write_bytes(b"weights")
    (folder / RUN / "notes.txt").write_text("mine")
    (folder / "references/omc-syn.own.csv").write_text(
        'image,group,tp,via_matched\n"a, ""b""\nc",g,1,2\n d ,g,,3\n', newline=""
    )
    return folder


def test_every_file_comes_back_byte_for_byte(study: Path) -> None:
    before = files(study)
    assert pack_study(study) == len(before) - 3  # the protocol, the weights and the notes stay
    packed = files(study)
    assert sorted(packed) == [
        *("packed/histories.csv", "packed/images.2.csv", "packed/images.csv", "packed/panels.zip"),
        *("packed/records.json", "protocol.toml", f"{RUN}/{WEIGHTS}", f"{RUN}/notes.txt"),
    ]
    assert [path.name for path in (study / "runs/omc-syn").iterdir()] == ["unet"]  # no empty folder is left
    assert pack_study(study) == 0
    assert files(study) == packed
    assert unpack_study(study) == len(before) - 3
    assert files(study) == before
    assert unpack_study(study) == 0


def test_packed_files_are_plain_json_and_tables(study: Path) -> None:
    record = json.loads((study / RUN / RECORD).read_bytes())
    pack_study(study)
    content = json.loads((study / PACKED / "records.json").read_bytes())
    assert content["files"][f"{RUN}/{RECORD}"] == record
    assert len(content["files"]) == 4 + 2
    table = pd.read_csv(study / PACKED / "images.csv")
    assert len(table) == (4 + 2) * 8
    assert table["file"].nunique() == 6
    assert pd.read_csv(study / PACKED / "images.2.csv")["image"].tolist() == ['a, "b"\nc', " d "]


def test_reading_takes_packed_files_for_those_in_folders(study: Path) -> None:
    before, names = list(Store(study).records()), stored_files(study, "references/[!.]*.csv")
    rounds, content = read_rounds(study / RUN), read_stored(study / RUN / "panels.omc-syn.npz", 100)
    pack_study(study)
    assert list(Store(study).records()) == before
    assert Store(study).read_record(("omc-syn",), "unet", 7) is None
    assert stored_files(study, "references/[!.]*.csv") == names
    assert (read_rounds(study / RUN), read_stored(study / RUN / "panels.omc-syn.npz", 100)) == (rounds, content)
    with pytest.raises(TooLargeError):
        read_stored(study / RUN / "panels.omc-syn.npz", 3)
    with pytest.raises(FileNotFoundError):
        read_stored(study / RUN / "images.miic-syn.csv", 100)


def test_interrupted_call_loses_nothing_and_the_next_one_completes_it(study: Path) -> None:
    before = files(study)
    pack_study(study)
    packed = files(study)
    for half in (sorted(before)[::2], sorted(before)[1::2]):  # some files not yet removed, or written already
        for name in half:
            (study / name).parent.mkdir(parents=True, exist_ok=True)
            (study / name).write_bytes(before[name])
        assert len(list(Store(study).records())) == 4
        assert pack_study(study) > 0
        assert files(study) == packed
    (study / RUN).mkdir(exist_ok=True)
    (study / RUN / RECORD).write_bytes(before[f"{RUN}/{RECORD}"])
    unpack_study(study)
    assert files(study) == before


def test_file_in_a_folder_replaces_the_packed_one(study: Path) -> None:
    pack_study(study)
    fake.write_run(study, "fcn", ["omc-syn"], 1, fake.counts(0.9, fake.random_of("again")))
    fake.write_efficiency(study, "letnet")
    assert [record.status for _, record in Store(study).records()] == ["ok"] * 4
    assert pack_study(study) == 3
    assert [record.status for _, record in Store(study).records()] == ["ok"] * 4
    assert len(stored_files(study, "efficiency/[!.]*.json")) == 3


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda study: (study / RUN / CHECKPOINT).touch(),
            r"quick: unfinished \(1 unfinished training\); expected a f",
        ),
        (lambda study: fake.write_run(study, "fcn", ["omc-syn"], 1, None, status="interrupted"), "fcn/1 was interrupt"),
        (
            lambda study: (study / RUN / RECORD).write_text("{"),
            r"unfinished \(.*unet/0/record.json: not a valid record",
        ),
        (lambda study: (study / "efficiency/a.json").write_text("{\n broken\n}\n"), "a.json: would not come back byte"),
        (lambda study: (study / "efficiency/a.json").write_text('{"a": 1}\n'), "a.json: would not come back byte"),
        (lambda study: (study / "references/o.own.csv").write_text("a,b\n1,2"), "o.own.csv: would not come back byte"),
        (lambda study: (study / "references/o.own.csv").write_text("a,b\n"), "o.own.csv: would not come back byte"),
        (lambda study: (study / "references/o.own.csv").write_bytes(b"a\n\xff\n"), "o.own.csv: would not come back"),
    ],
)
def test_study_that_would_not_come_back_is_refused(study: Path, change: Callable[[Path], object], reason: str) -> None:
    change(study)
    before = files(study)
    with pytest.raises(UserError, match=reason):
        pack_study(study)
    assert files(study) == before


def test_study_at_work_is_refused(study: Path) -> None:
    for folder, reason in ((study / RUN, "1 run under way"), (study, "another process is at work in this study")):
        claim = claims.acquire(folder)
        assert claim is not None
        with claim, pytest.raises(UserError, match=reason):
            pack_study(study)
    assert not is_packed(study)


def test_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    for change in (pack_study, unpack_study):
        with pytest.raises(UserError, match="no study there"):
            change(tmp_path / "none")
        with pytest.raises(UserError, match="no study there"):
            change(tmp_path)


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("records.json", b'"schema": 4', b'"schema": 5', "schema 5, made by a newer release; this one reads up to 4"),
        ("records.json", b"}}\n", b"}", r"records.json: not a file of a packed study \(unexpected text in line \d+"),
        ("records.json", b'"efficiency/', b'"../../', r"'../../fcn.*json' does not belong there"),
        ("records.json", b'"efficiency/', b'"protocol.toml/', "does not belong there"),
        ("images.csv", b"file,", b"name,", "the first column is not 'file'"),
        ("images.csv", b"references/", b"/tmp/", "does not belong there"),
        ("images.csv", b"file,image", b"\xff", "can't decode byte"),
        ("panels.zip", b"PK\x01\x02", b"PK\x01\x03", "not a file of a packed study"),
    ],
)
def test_foreign_packed_file_is_refused(study: Path, name: str, old: bytes, new: bytes, reason: str) -> None:
    pack_study(study)
    file = study / PACKED / name
    assert old in file.read_bytes()
    file.write_bytes(file.read_bytes().replace(old, new))
    before = files(study)
    with pytest.raises(UserError, match=reason):
        unpack_study(study)
    assert files(study) == before


def test_broken_record_among_packed_ones_is_found(study: Path) -> None:
    pack_study(study)
    file = study / PACKED / "records.json"
    file.write_bytes(file.read_bytes().replace(b'"repeat": 0,\n', b'"again": 0,\n', 1))
    records, broken = Store(study).survey()
    assert (len(records), len(broken)) == (3, 1)
    with pytest.raises(BrokenRecordError, match=r"record\.json: not a valid record"):
        list(Store(study).records())
