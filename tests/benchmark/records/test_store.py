"""Tests records on disk: valid, broken and refused ones, and names that stay inside their folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from benchmark.data.splits import Division
from benchmark.records.run_record import Failure, KeyParts, Record, TrainingFacts
from benchmark.records.store import RECORD, RECORD_BYTES, BrokenRecordError, Shared, Store, read_record, run_key
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

RESULTS = Path(__file__).parents[3] / "results"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    for repeat in range(2):
        fake.write_run(tmp_path, "unet", ["omc"], repeat, None)
    return Store(tmp_path)


def spoil(store: Store, **fields: Any) -> Path:
    """Change fields of the first run's record."""
    file = store.run_folder(("omc",), "unet", 0) / RECORD
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    return file


@pytest.mark.parametrize(
    "name", ["../../elsewhere", "..", ".hidden", "a/b", "a\\b", "C:x", "", "-rf", "a b", "a\n", "evil.py:Net", "/etc"]
)
@pytest.mark.parametrize("field", ["model", "train", "test", "efficiency"])
def test_names_in_a_record_cannot_lead_out_of_its_folder(store: Store, field: str, name: str) -> None:
    file = spoil(store, **{field: name if field == "model" else [name]})
    with pytest.raises(BrokenRecordError, match=field):
        read_record(file)


@pytest.mark.parametrize("fields", [{"train": []}, {"repeat": -1}, {"repeat": "../1"}])
def test_other_parts_of_a_run_name_cannot_lead_out_of_its_folder(store: Store, fields: dict[str, Any]) -> None:
    with pytest.raises(BrokenRecordError):
        read_record(spoil(store, **fields))


@pytest.mark.parametrize("name", ["unet", "eal_icnet.no_tssa", "mychip-2", "netz_größe", "_net"])
def test_names_that_networks_and_datasets_have_are_accepted(store: Store, name: str) -> None:
    result = read_record(spoil(store, model=name, test=[name]))
    assert result is not None
    assert result.model == name


def test_record_in_the_folder_of_another_run_is_broken(store: Store) -> None:
    copy = store.run_folder(("omc",), "unet", 5)
    copy.mkdir()
    (copy / RECORD).write_bytes((store.run_folder(("omc",), "unet", 0) / RECORD).read_bytes())
    records, broken = store.survey()
    assert [record.repeat for _, record in records] == [0, 1]
    assert [one.folder for one in broken] == [copy]
    assert "is the record of another run, omc/unet/0" in broken[0].reason


@pytest.mark.parametrize("content", [b"", b'{"schema": 1', b"[" * 100_000, b"\xff\xfe", b'{"schema": 1}', b"[1]"])
def test_broken_record_is_named_and_the_others_are_read(store: Store, content: bytes) -> None:
    file = store.run_folder(("omc",), "unet", 0) / RECORD
    file.write_bytes(content)
    records, broken = store.survey()
    assert [record.repeat for _, record in records] == [1]
    assert [one.run for one in broken] == ["omc/unet/0"]
    assert str(file) in broken[0].reason
    with pytest.raises(BrokenRecordError, match="not a valid record"):
        list(store.records())


def test_unknown_field_is_named_without_what_a_terminal_would_obey(store: Store) -> None:
    spoil(store, **{"novelty\x1b[2J": 1})
    (broken,) = store.survey()[1]
    assert "not a valid record (novelty?[2J: Extra inputs are not permitted)" in broken.reason


def test_record_of_a_newer_release_is_refused_and_never_called_broken(store: Store) -> None:
    spoil(store, schema=4, novelty="a field of the future")
    with pytest.raises(
        UserError, match=r"record\.json: a record of schema 4, made by a newer release.*up to 3"
    ) as raised:
        store.survey()
    assert not isinstance(raised.value, BrokenRecordError)


def test_temporarily_unreadable_record_is_not_broken(store: Store) -> None:
    file = store.run_folder(("omc",), "unet", 0) / RECORD
    file.unlink()
    file.mkdir()  # as good as a disk that is away: the content is unknown
    with pytest.raises(UserError, match="cannot be read") as raised:
        store.survey()
    assert not isinstance(raised.value, BrokenRecordError)


def test_huge_record_is_not_read_into_memory(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    file = store.run_folder(("omc",), "unet", 0) / RECORD
    with file.open("r+b") as stream:
        stream.truncate(RECORD_BYTES + 1)  # sparse
    monkeypatch.setattr(Record, "model_validate_json", lambda _: pytest.fail("was parsed"))
    with pytest.raises(BrokenRecordError, match=r"record\.json: larger than 16 MiB"):
        read_record(file)


def test_message_cannot_repaint_the_terminal() -> None:
    created = Failure(kind="error", message="\x1b]0;title\x07\x1b[2Jno\r\nsecond\tline\x9b", log="\x1b[31m")
    assert (created.message, created.log) == ("]0;title[2Jno\nsecond\tline", "[31m")
    with pytest.raises(ValidationError):
        Failure(kind="error", message=1)  # type: ignore[arg-type]


def test_keys_of_finished_runs_follow_from_their_parts() -> None:
    records = [record for _, record in Store(RESULTS / "reference-quick").records()]
    assert len(records) == 66
    assert all(run_key(record.key_parts) == record.key for record in records)


def test_every_part_of_a_key_counts() -> None:
    parts = KeyParts(protocol="p", data="d", model="m", behaviour=1, repeat=0)
    changed = [{"protocol": "q"}, {"data": "e"}, {"model": "n"}, {"behaviour": 2}, {"repeat": 1}]
    assert len({run_key(parts.model_copy(update=change)) for change in [{}, *changed]}) == 6


def test_shared_files_of_one_dataset_are_removed_and_no_others(tmp_path: Path) -> None:
    store, shared = Store(tmp_path), Shared("f", "p", 1)
    for name in ("omc", "miic"):
        for file in (store.reference_file(name, "otsu"), store.images_file(name)):
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"")
        store.write_split(name, shared, [Division((1, 0), (2,), ())], ["b", "a", "c"])
    assert store.read_split("omc") == {"train": ["a", "b"], "val": ["c"], "test": [], "fingerprint": ["f"]}
    store.remove_shared("omc")
    left = {file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*.*")}
    assert left == {"panels/miic.npz", "references/miic.otsu.csv", "splits/miic.json"}
    assert (store.shared("omc"), store.shared("miic")) == (None, shared)


def test_weights_of_the_lowest_validation_loss_are_kept(store: Store) -> None:
    record = store.read_record(("omc",), "unet", 0)
    assert record is not None
    facts = dict.fromkeys(TrainingFacts.model_fields, 1) | {"split": ""}
    for repeat, loss in enumerate((0.5, 0.3, None)):
        training = TrainingFacts.model_validate(facts | {"best_validation_loss": loss})
        changed = record.model_copy(update={"repeat": repeat, "training": training})
        run = store.write_run(changed, {"omc": b"counts"}, [], b"weights")
        assert {file.name for file in run.iterdir()} == {"images.omc.csv", "best.safetensors", RECORD}
    store.keep_best_weights(("omc",), "unet")
    assert list(store.kept_weights("omc", "unet")) == [1]
    run = store.write_run(record.model_copy(update={"repeat": 3}), {}, [], None)
    assert {file.name for file in run.iterdir()} == {RECORD}
    assert store.read_record(("omc",), "unet", 4) is None
