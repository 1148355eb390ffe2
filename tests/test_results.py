"""The reference results in the repository: what the code of today makes of their records."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.records.store import Store
from benchmark.report import build

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference-quick"
STUDIES = sorted(path for path in (ROOT / "results").glob("reference-*") if path.is_dir())


@pytest.fixture(scope="module")
def committed() -> list[Path]:
    """All files of the repository."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs git and a checkout, which know the committed files")
    command = ["git", "-c", f"safe.directory={ROOT.as_posix()}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return [path for name in listed.stdout.split("\0") if (path := ROOT / name).is_file()]


def test_repository_is_small_and_has_few_results(committed: list[Path]) -> None:
    assert sum(path.stat().st_size for path in committed) < 20_000_000
    results = [path for path in committed if path.is_relative_to(ROOT / "results")]
    assert len(results) < 400
    assert sum(path.stat().st_size for path in results) < 15_000_000
    assert not [path for path in results if path.suffix in (".safetensors", ".pt", ".log")]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_pages_and_tables_follow_from_records_and_these_from_counts(study: Path) -> None:
    assert build.check(study) == []
    assert list(study.glob("report/tables/*.md"))


def test_reference_study_is_complete() -> None:
    records = [record for _, record in Store(REFERENCE).records()]
    assert len(records) == 66
    assert {record.status for record in records} == {"ok"}
    assert len(list(REFERENCE.glob("report/tables/*.md"))) == 9
    assert len(list(REFERENCE.glob("report/panels/*.png"))) == 6


def test_readme_shows_the_table_of_the_reference_study() -> None:
    table = (REFERENCE / "report/tables/custom.md").read_text("utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) == 20
    assert "\n".join(rows) in (ROOT / "README.md").read_text("utf-8")


@pytest.mark.parametrize("loss", ["bce_dice", "cldice", "scnp"])
def test_page_shows_the_figures_of_the_studies_of_losses(loss: str) -> None:
    study = ROOT / "results" / f"reference-loss-{loss}"
    assert [record.status for _, record in Store(study).records()] == ["ok"] * 6
    protocol = Store(study).read_protocol()
    assert protocol is not None
    assert protocol.loss.name == loss
    page = (ROOT / "results/README.md").read_text("utf-8")
    table = re.sub(r"\*\*|</?u>", "", (study / "report/tables/custom.md").read_text("utf-8"))
    rows = [line for line in table.splitlines() if line.startswith(("| EAL-ICNet |", "| UNet |"))]
    assert len(rows) == 2
    assert all(f"| `{loss}` {row}" in page for row in rows)
