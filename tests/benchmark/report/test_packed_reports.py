"""Reports of packed studies with every kind of test: the same bytes as from folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.records.packing import pack_study, unpack_study
from benchmark.report.build import build
from benchmark.report.merge import merge
from benchmark.report.read import read_study
from benchmark.report.up_to_date import digest_inputs
from tests.benchmark.report import fake
from tests.benchmark.report.tables.test_ensemble_rows import write_ensemble
from tests.benchmark.report.tables.test_stress_table import TEST, write_stressed
from tests.benchmark.report.test_merge import settled


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A study with runs, stress tests, ensembles, methods without training, efficiency figures and histories."""
    folder = settled(write_stressed(tmp_path / "quick"))
    for model in ("unet", "eal_icnet"):
        write_ensemble(folder, model, TEST, 0.99)
        fake.write_efficiency(folder, model)
        fake.write_history(folder / f"runs/{TEST}/{model}/0", [0.5, 0.4])
    fake.write_counts(folder / f"references/{TEST}.otsu.csv", fake.counts(0.7, fake.random_of("otsu"), images=4))
    return folder


def report(study: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in build(study, plots=()) if path.is_file()}


def test_page_and_tables_are_the_same_bytes(study: Path) -> None:
    before, whole = report(study), read_study(study)
    assert whole.stressed
    assert whole.ensembles
    assert any(name.endswith("tables/stress.csv") for name in before)
    pack_study(study)
    assert not [path for path in study.iterdir() if path.name in ("runs", "stress", "ensembles", "references")]
    assert report(study) == before
    unpack_study(study)
    assert report(study) == before


def test_packed_study_merges_with_one_in_folders(study: Path, tmp_path: Path) -> None:
    other = settled(fake.write_study(tmp_path / "other", ["unet"], ["omc-syn"], repeats=2))
    before = merge([study, other])
    pack_study(study)
    after = merge([study, other])
    assert after.origin == before.origin
    assert [run.record for run in after.runs] == [run.record for run in before.runs]
    assert [run.scores["omc-syn"].sums for run in after.runs if "omc-syn" in run.scores] == [
        run.scores["omc-syn"].sums for run in before.runs if "omc-syn" in run.scores
    ]


def test_changed_packed_file_makes_the_report_anew(study: Path) -> None:
    pack_study(study)
    inputs = digest_inputs(study)
    assert digest_inputs(study) == inputs
    file = study / "packed/records.json"
    file.write_bytes(file.read_bytes().replace(b'"repeat": 0', b'"repeat": 1', 1))
    assert digest_inputs(study) != inputs
