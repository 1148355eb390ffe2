"""The reference results in the repository: what the code of today makes of their records."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.records.store import Store
from benchmark.report import build
from benchmark.report.page.drawings import Drawing, texts_only
from benchmark.report.plots.all_plots import PLOTS
from benchmark.report.read import read_study

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference-quick"
STUDIES = sorted(path for path in (ROOT / "results").glob("reference-*") if path.is_dir())
#: Their pages are drawn every day, and have all that the others' have but two kinds of drawings; CI draws all.
WHOLE = [REFERENCE, ROOT / "results" / "reference-bench-zen4"]


def name(study: Path) -> str:
    return study.name


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


@pytest.mark.parametrize(
    "study", [study if study in WHOLE else pytest.param(study, marks=pytest.mark.slow) for study in STUDIES], ids=name
)
def test_pages_and_tables_follow_from_records_and_these_from_counts(study: Path) -> None:
    assert build.check(study) == []
    assert list(study.glob("report/tables/*.md"))


@pytest.mark.parametrize("study", [study for study in STUDIES if study not in WHOLE], ids=name)
def test_tables_follow_from_records_and_these_from_counts(study: Path) -> None:
    drawn = [f"{study}/report/index.html: differs from the records"] if list(study.glob("report/plots/*")) else []
    assert build.check(study, plots=()) == drawn  # which is left out


@pytest.mark.parametrize("kind", ["growth", "stress"])
def test_drawings_of_a_kind_that_one_page_has_follow_from_its_records(kind: str) -> None:
    study = ROOT / "results" / f"reference-{kind}"
    results, page = read_study(study), texts_only((study / "report/index.html").read_bytes())
    (plot,) = [plot for plot in PLOTS if plot.table == kind]
    (figure,) = plot.draw(results)
    texts = texts_only(Drawing.of(plot, *figure).svg.encode())
    assert len(texts) > 100
    assert texts in page


def test_reference_study_is_complete() -> None:
    records = [record for _, record in Store(REFERENCE).records()]
    assert len(records) == 66
    assert {record.status for record in records} == {"ok"}
    assert len(list(REFERENCE.glob("report/tables/*.md"))) == 9
    assert len(list(REFERENCE.glob("report/panels/*.png"))) == 6


@pytest.mark.parametrize("study", ["open", "standins"])
def test_readme_shows_the_tables_of_the_studies_on_real_pictures(study: str) -> None:
    table = (ROOT / f"results/reference-{study}/report/tables/custom.md").read_text("utf-8")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert len(rows) > 10
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
