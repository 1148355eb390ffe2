"""What differs between two studies, against studies that were changed in one place."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from benchmark.records.run_record import Failure, Record
from benchmark.records.store import RECORD, Store, read_record
from benchmark.report.diff import compare_studies, describe
from benchmark.utils.errors import UserError
from tests.benchmark.report import fake

MODELS = ["eal_icnet", "unet"]
ENVIRONMENT = {"threads": 1, "packages": {"torch": "2.14.1"}, "code": {"commit": "abc"}}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = fake.write_study(tmp_path_factory.mktemp("results") / "first", MODELS, ["omc-syn"], repeats=2)
    fake.change(folder, lambda record: {"environment": ENVIRONMENT})
    return folder


@pytest.fixture
def copy(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "second")


def text(first: Path, second: Path) -> str:
    return describe(compare_studies(first, second), first.name, second.name)


def test_copy_differs_in_nothing(original: Path, copy: Path) -> None:
    result = compare_studies(original, copy)
    assert result.identical
    assert not any(result.sections.values())
    assert [(row.model, row.repeats, row.identical) for row in result.numbers] == [("eal_icnet", 2, 2), ("unet", 2, 2)]
    assert "numbers: identical to the last bit in 4 of 4 tests" in text(original, copy)


def test_last_bit_of_one_metric_of_one_run_is_a_difference(original: Path, copy: Path) -> None:
    def by_a_bit(record: Record) -> dict[str, object]:
        metrics = record.model_dump()["metrics"]
        metrics["omc-syn"]["image"]["dice"] *= 1 + 2**-52
        return {"metrics": metrics}

    fake.change(copy, by_a_bit, "omc-syn/unet/1")
    result = compare_studies(original, copy)
    assert not result.identical
    assert [(row.model, row.repeats, row.identical) for row in result.numbers] == [("eal_icnet", 2, 2), ("unet", 2, 1)]
    shown = text(original, copy)
    assert "numbers: identical to the last bit in 3 of 4 tests" in shown
    assert "eal_icnet" not in shown  # only what differs is listed
    assert re.search(r"omc-syn +omc-syn +unet +2 +1 +(\d\d\.\d\d) +\1 +\+0 +\+0 +\+\S+e-1\d ", shown)


def test_means_are_over_the_repeats_that_both_have_finished(original: Path, copy: Path) -> None:
    shutil.rmtree(copy / "runs/omc-syn/unet/0")
    fake.change(copy, lambda record: {"metrics": {"omc-syn": {"image": {"miou": 0.5}, "pooled": {}}}}, "omc-syn/unet/1")
    result = compare_studies(original, copy)
    record = read_record(original / "runs/omc-syn/unet/1" / RECORD)
    assert record is not None
    (row,) = (row for row in result.numbers if row.model == "unet")
    assert (row.repeats, row.identical) == (1, 0)
    assert row.means == {"miou": (record.metrics["omc-syn"]["image"]["miou"], 0.5)}
    assert result.sections["runs"] == ["only in first: omc-syn unet, repeat 0"]


def test_missing_runs_alone_leave_the_common_numbers_identical(original: Path, copy: Path) -> None:
    shutil.rmtree(copy / "runs/omc-syn/unet")
    assert compare_studies(original, copy).identical
    shutil.rmtree(copy / "runs/omc-syn/eal_icnet")
    assert not compare_studies(original, copy).identical  # nothing in common is no agreement
    assert "no finished run in common" in text(original, copy)


def test_run_that_failed_in_one_study_is_told(original: Path, copy: Path) -> None:
    fake.write_run(copy, "unet", ["omc-syn"], 1, None, Failure(kind="nan_loss", message="NaN"))
    result = compare_studies(original, copy)
    assert not result.identical
    assert result.outcomes == ["omc-syn unet repeat 1: ok | failed (nan_loss)"]


def test_all_settings_are_compared_also_those_that_change_no_run(original: Path, copy: Path) -> None:
    fake.write_protocol(copy, "training.weight_decay=0.5", "repeats=7", "report.reduction=pooled")
    assert compare_studies(original, copy).sections["settings"] == [
        "repeats: 3 -> 7", "report.reduction: 'image' -> 'pooled'", "training.weight_decay: 0.0 -> 0.5",
    ]  # fmt: skip


def test_environments_are_compared_as_sets_of_values(original: Path, copy: Path) -> None:
    other = {"threads": 2, "packages": {"torch": "2.13.0"}, "code": {"commit": "abc"}, "gpu": "H100"}
    fake.change(copy, lambda record: {"environment": other}, "omc-syn/unet/1")
    assert compare_studies(original, copy).sections["environment"] == [
        "gpu: - | H100", "packages.torch: 2.14.1 | 2.13.0, 2.14.1", "threads: 1 | 1, 2",
    ]  # fmt: skip


def test_all_packages_are_compared_where_both_studies_have_their_lists(original: Path, copy: Path) -> None:
    def listed(folder: Path, packages: str) -> None:
        digest = Store(folder).write_packages(packages)
        fake.change(folder, lambda record: {"environment": ENVIRONMENT | {"package_list": digest}})

    listed(copy, "pillow==13.0\ntorch==2.14.1\n")
    assert compare_studies(original, copy).sections["environment"] == []  # the first study's records have no list
    first = shutil.copytree(original, copy.parent / "first")
    listed(first, "pillow==12.0\nsix==1.0\ntorch==2.14.1\n")
    assert compare_studies(first, copy).sections["environment"] == [
        "packages.pillow: 12.0 | 13.0", "packages.six: 1.0 | -",
    ]  # fmt: skip


def test_many_packages_are_counted_except_those_that_compute(original: Path, copy: Path) -> None:
    first = shutil.copytree(original, copy.parent / "first")
    lists = {first: "old==1\nboth==1\n", copy: "both==2\n" + "".join(f"new{n}==1\n" for n in range(9))}
    for folder, packages in lists.items():
        digest = Store(folder).write_packages(packages)
        version = {"torch": f"2.{len(packages)}"}
        facts = ENVIRONMENT | {"package_list": digest, "packages": version}
        fake.change(folder, lambda record, facts=facts: {"environment": facts})
    torch, others = compare_studies(first, copy).sections["environment"]
    assert torch.startswith("packages.torch: 2.")
    assert others == (
        "other packages: 1 only here | 9 only here; 1 of other versions; environment/packages.*.txt of each study "
        "lists them"
    )


def test_other_data_other_code_and_other_behaviour_are_told(original: Path, copy: Path) -> None:
    def other(record: Record) -> dict[str, object]:
        model = f"{record.model}-v2"
        return {"key_parts": record.key_parts.model_copy(update={"data": "e", "model": model, "behaviour": 9})}

    fake.change(copy, other, "omc-syn/unet/*")
    shutil.rmtree(copy / "runs/omc-syn/eal_icnet")
    assert compare_studies(original, copy).sections["data and code"] == [
        "behaviour number of the harness: 1 | 9", "content of omc-syn: d | e", "network unet: unet | unet-v2",
    ]  # fmt: skip


def test_folder_that_is_no_study_is_an_error(original: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.protocol\.toml: no such file"):
        compare_studies(original, tmp_path / "nowhere")
