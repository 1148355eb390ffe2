"""The list of tables: names of their own, which the tables themselves carry, and a section of the page for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.report.page.html import SECTIONS
from benchmark.report.read import StudyResults, read_study
from benchmark.report.tables.all_tables import TABLES, TableEntry
from tests.benchmark.report import fake


@pytest.fixture(scope="module")
def report(study: Path) -> StudyResults:
    return read_study(study)


@pytest.mark.parametrize("entry", TABLES, ids=lambda entry: entry.name)
def test_table_has_the_name_of_its_entry_and_a_section_of_the_page(
    entry: TableEntry, report: StudyResults, tmp_path: Path
) -> None:
    fake.write_efficiency(tmp_path, "unet")

    assert entry.make(report).name == entry.name
    assert entry.make(read_study(tmp_path)).name == entry.name  # also where there is nothing to show
    assert entry.section in dict(SECTIONS)


def test_names_are_unique() -> None:
    assert len({entry.name for entry in TABLES}) == len(TABLES)
