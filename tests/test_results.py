"""The reference results in the repository: what the code of today makes of their records."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmark.records.store import Store
from benchmark.report import build

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference-quick"


def test_tables_of_the_reference_study_follow_from_its_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Files of plots are not compared; the page has the same plots.
    monkeypatch.setattr(build, "plot_style", SimpleNamespace(save=lambda figure, kind: b""))
    study = shutil.copytree(REFERENCE, tmp_path / REFERENCE.name, ignore=shutil.ignore_patterns("report"))
    (study / "report").mkdir()
    shutil.copy(REFERENCE / "report/custom.json", study / "report")  # the choice of README's table
    build.build(study)
    expected = sorted(path.relative_to(REFERENCE) for path in REFERENCE.glob("report/tables/*"))
    assert len(expected) == 29
    expected += sorted(path.relative_to(REFERENCE) for path in REFERENCE.glob("report/panels/*.png"))
    expected.append(Path("report/index.html"))
    assert len(expected) == 29 + 1 + 6
    for path in expected:
        assert (study / path).read_bytes() == (REFERENCE / path).read_bytes(), path
    assert build.check(REFERENCE) == []


def test_reference_study_is_complete() -> None:
    records = [record for _, record in Store(REFERENCE).records()]
    assert len(records) == 66
    assert {record.status for record in records} == {"ok"}


def test_readme_shows_the_table_of_the_reference_study() -> None:
    table = (REFERENCE / "report/tables/custom.md").read_text("utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 20
    assert "\n".join(rows) in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("loss", ["bce_dice", "cldice", "scnp"])
def test_page_shows_the_figures_of_the_studies_of_losses(loss: str) -> None:
    study = ROOT / "results" / f"reference-loss-{loss}"
    assert [record.status for _, record in Store(study).records()] == ["ok"] * 6
    assert build.check(study) == []
    protocol = Store(study).read_protocol()
    assert protocol is not None
    assert protocol.loss.name == loss
    page = (ROOT / "results/README.md").read_text("utf-8")
    table = re.sub(r"\*\*|</?u>", "", (study / "report/tables/custom.md").read_text("utf-8"))
    rows = [line for line in table.splitlines() if line.startswith(("| EAL-ICNet |", "| UNet |"))]
    assert len(rows) == 2
    assert all(f"| `{loss}` {row}" in page for row in rows)


def test_reference_studies_are_small() -> None:
    files = [path for path in (ROOT / "results").glob("reference-*/**/*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 15_000_000
    assert not [path for path in files if path.suffix in (".safetensors", ".pt")]
