"""Tests which changes make a report anew."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.records import claims
from benchmark.report.build import build
from benchmark.report.up_to_date import digest_inputs, is_up_to_date
from tests.benchmark.conftest import leave_plots_blank
from tests.benchmark.report import fake


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "quick"
    fake.write_study(folder, ["unet"], ["omc-syn"], repeats=2)
    with pytest.MonkeyPatch.context() as patch:
        leave_plots_blank(patch)
        build(folder)
    return folder


def edit(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\n")


@pytest.mark.parametrize(
    "change",
    [
        lambda study: edit(study / "runs/omc-syn/unet/0/record.json"),
        lambda study: edit(study / "runs/omc-syn/unet/1/images.omc-syn.csv"),
        lambda study: edit(study / "protocol.toml"),
        lambda study: edit(next(study.glob("efficiency/*.json"))),
        lambda study: edit(study / "report/index.html"),
        lambda study: (study / "report/tables/accuracy.csv").unlink(),
        lambda study: (study / "report/custom.json").write_text("{}"),
        lambda study: (study / "report/.made-from.json").write_text("{"),
    ],
)
def test_changed_missing_or_added_file_makes_it_anew(study: Path, change: Callable[[Path], object]) -> None:
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    assert is_up_to_date(study)
    change(study)
    assert not is_up_to_date(study)
    for path in study.rglob("*"):
        if path.is_file() and path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    assert is_up_to_date(study)


def test_metric_of_a_package_and_its_version_make_it_anew(study: Path, install_lab: Callable[..., None]) -> None:
    digests = [digest_inputs(study)]
    for version in ("1.0", "1.1"):
        install_lab(version)
        digests.append(digest_inputs(study))
    assert len(set(digests)) == 3


def test_run_under_way_counts_and_logs_and_weights_do_not(study: Path) -> None:
    run = study / "runs/omc-syn/unet/0"
    for name in ("log.txt", "best.safetensors", "last.pt"):
        (run / name).write_text("changes nothing")
    assert is_up_to_date(study)
    claim = claims.acquire(run)
    assert claim is not None
    with claim:
        assert not is_up_to_date(study)
    assert is_up_to_date(study)


def test_page_alone_is_no_report(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=2)
    build(tmp_path, page_only=True)
    assert not is_up_to_date(tmp_path)


@pytest.mark.usefixtures("blank_plots")
def test_page_alone_keeps_the_plots_of_the_last_report(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=2)
    build(tmp_path)
    plots = sorted(tmp_path.glob("report/plots/*"))
    assert plots
    build(tmp_path, page_only=True)
    assert sorted(tmp_path.glob("report/plots/*")) == plots
