"""The reference results in the repository: what the code of today makes of their records."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmark import report
from benchmark.store import Store

REFERENCE = Path(__file__).parents[1] / "results" / "reference-quick"


def test_tables_of_the_reference_study_follow_from_its_records(tmp_path: Path) -> None:
    study = shutil.copytree(REFERENCE, tmp_path / "study", ignore=shutil.ignore_patterns("report"))
    report.build(study)
    expected = sorted(path.relative_to(REFERENCE) for path in REFERENCE.glob("report/tables/*"))
    assert len(expected) == 23
    for path in expected:
        assert (study / path).read_bytes() == (REFERENCE / path).read_bytes(), path
    assert report.check(REFERENCE) == []


def test_the_reference_study_is_complete() -> None:
    records = [record for _, record in Store(REFERENCE).records()]
    assert len(records) == 66
    assert {record.status for record in records} == {"ok"}
