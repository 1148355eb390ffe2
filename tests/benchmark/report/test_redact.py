"""Reports that may leave the house: no names of images, messages, paths or pictures in any of their files."""

from __future__ import annotations

import csv
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from benchmark.records.run_record import Failure
from benchmark.report.build import PaperChoice, build
from benchmark.report.read import read_study
from benchmark.report.redact import redact_study
from tests.benchmark.conftest import Call
from tests.benchmark.report import fake

SECRETS = ("wafer", "dieshot", "lot42", "jane", "secret")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    folder = fake.write_study(tmp_path / "results/quick", ["unet", "eal_icnet", "fcn"], ["omc-syn"], repeats=3)
    for file in (*folder.glob("runs/*/*/*/images.*.csv"), *folder.glob("references/*.csv")):
        file.write_text(re.sub(r"(?m)^(\d)\.png,g(\d)", r"wafer\1-dieshot.png,lot42-\2", file.read_text()))
    failure = Failure(kind="bad_input", message="wafer3-dieshot.png: not an image", log="secret of jane: wafer3")
    fake.write_run(folder, "unet", ["omc-syn"], 1, None, failure)
    (folder / "runs/omc-syn/unet/2/record.json").write_text('{"secret": 1}')
    (folder / "report/panels").mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(folder / "report/panels/omc-syn.hardest.png")
    return folder


def test_redacted_report_holds_no_secret_and_is_checked(study: Path, call: Call) -> None:
    shutil.rmtree(study / "efficiency")  # whose plots take most of the time
    code, out, err = call("report", "quick", "--redact")
    assert code == 0, err
    folder = study / "report-redacted"
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert {str(path.relative_to(study.parents[1])) for path in files} == {
        line for line in out.splitlines() if ":" not in line
    }
    assert {path.suffix for path in files} >= {".html", ".csv", ".tex", ".md", ".pdf", ".png"}
    assert not (folder / "panels").exists()
    for path in files:
        content = path.read_bytes().lower()
        assert not [word for word in SECRETS if word.encode() in content], path
        assert str(study.parents[1]).encode() not in path.read_bytes()
    page = (folder / "index.html").read_text("utf-8")
    assert "<strong>Redacted.</strong>" in page
    assert "<img" not in page
    assert "<strong>bad_input</strong>: message withheld" in page
    assert "omc-syn/unet/2" in page
    # The other report is not touched.
    assert [path.name for path in (study / "report").rglob("*") if path.is_file()] == ["omc-syn.hardest.png"]
    assert call("report", "quick", "--redact", "--check")[0] == 0
    (folder / "index.html").write_text("wafer")
    code, out, _ = call("report", "quick", "--redact", "--check")
    assert code == 1
    assert out == "results/quick/report-redacted/index.html: differs from the records\n"


def test_every_number_is_the_same(study: Path) -> None:
    build(study, plots=())
    build(study, redact=True, plots=())
    for file in sorted((study / "report/tables").glob("*.csv")):
        plain, redacted = (
            [
                {key: value for key, value in row.items() if key != "remark"}
                for row in csv.DictReader(path.read_text("utf-8").splitlines())
            ]
            for path in (file, study / "report-redacted/tables" / file.name)
        )
        assert plain == redacted, file.name


def test_images_become_numbers_that_stay_apart_and_in_order(study: Path) -> None:
    results = read_study(study)
    (plain,) = next(iter(results.references["omc-syn"].values()))
    (hidden,) = next(iter(redact_study(results).references["omc-syn"].values()))
    assert hidden.images == tuple("12345678")
    assert hidden.groups == tuple("11223344")
    assert sorted(range(8), key=hidden.images.__getitem__) == sorted(range(8), key=plain.images.__getitem__)
    assert hidden.reduced == plain.reduced


def test_paper_table_is_taken_over_and_its_choice_stays(study: Path) -> None:
    build(study, PaperChoice(columns=("miou",)), plots=())
    build(study, redact=True, plots=())
    assert (study / "report-redacted/tables/custom.csv").is_file()
    assert not (study / "report-redacted/custom.json").exists()
