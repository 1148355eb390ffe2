"""The transfer tables and heat maps: what stands in which cell, and that nothing is drawn where nothing crosses."""

from __future__ import annotations

import re
import statistics
from pathlib import Path

import pytest

from benchmark.report import build
from benchmark.report.plots import transfer_plot
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table, transfer_table
from tests.benchmark.report import fake

NAMES = ("omc-syn", "miic-syn", "hy5syn-syn")


@pytest.fixture(scope="module")
def crossed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four networks trained on each of three datasets, and on two together, and tested on all three."""
    folder = tmp_path_factory.mktemp("results") / "crossed"
    fake.write_protocol(folder)
    for model in ("eal_icnet", "esnet", "letnet", "unet"):
        for train in (*((name,) for name in NAMES), NAMES[:2]):
            for repeat in range(2):
                rows = fake.counts(0.9 if model == "esnet" else 0.8, fake.random_of(model, train, repeat))
                fake.write_run(folder, model, train, repeat, rows, test=NAMES)
    return folder


def test_block_per_training_set_holds_models_against_test_datasets(crossed: Path) -> None:
    study = read_study(crossed)
    blocks = [block for block in transfer_table.table(study).blocks if block.facts["metric_name"] == "miou"]
    assert [block.facts["train"] for block in blocks] == ["omc-syn", "miic-syn", "hy5syn-syn", "omc-syn+miic-syn"]
    joint = blocks[-1]
    assert [column.key for column in joint.columns] == list(NAMES)
    assert [row.key for row in joint.rows] == ["eal_icnet", "esnet", "letnet", "unet"]
    values = [
        run.scores["hy5syn-syn"].reduced["image"]["miou"]
        for run in study.runs
        if run.record.train == NAMES[:2] and run.record.model == "esnet"
    ]
    cell = joint.rows[1].cells["hy5syn-syn"]
    assert (cell.mean, cell.n) == (pytest.approx(statistics.fmean(values)), 2)
    text = " ".join(joint.conventions)
    assert "omc-syn, miic-syn: trained on too" in text
    assert "Reduction: image" in text
    assert "hy5syn-syn is the synthetic stand-in for hy5syn" in text
    assert joint.marks()["esnet", "hy5syn-syn"] == "best"


def test_net_errors_are_pooled_whatever_the_protocol_says(crossed: Path) -> None:
    blocks = [b for b in transfer_table.table(read_study(crossed)).blocks if b.facts["metric_name"] == "net_error_rate"]
    assert len(blocks) == 4
    assert {block.facts["reduction"] for block in blocks} == {"pooled"}


def test_heat_map_prints_every_mean_and_frames_the_trainings_own_data(crossed: Path) -> None:
    ((stem, figure),) = transfer_plot.draw(read_study(crossed))
    assert stem == "transfer.miou"
    panels = [axes for axes in figure.axes if axes.images]
    assert [axes.get_title() for axes in panels] == ["EAL-ICNet", "ESNet", "LETNet", "UNet"]
    blocks = [b for b in transfer_table.table(read_study(crossed)).blocks if b.facts["metric_name"] == "miou"]
    expected = [f"{100 * block.rows[1].cells[test].mean:.1f}" for block in blocks for test in NAMES]
    assert [text.get_text() for text in panels[1].texts] == expected
    assert len(panels[1].patches) == 3 + 2  # three on themselves, and both parts of the joint training


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no other plots, which take most of the time."""
    only = [plot for plot in build.all_plots.PLOTS if plot.table == "transfer"]
    monkeypatch.setattr(build.all_plots, "PLOTS", only)


def test_report_writes_them_and_a_study_without_a_crossing_has_none(crossed: Path, study: Path, alone: None) -> None:
    names = {path.name for path in build.build(crossed)}
    assert {"transfer.csv", "transfer.md", "transfer.tex", "transfer.miou.pdf", "transfer.miou.png"} <= names
    assert not transfer_table.table(read_study(study)).blocks
    assert not list(transfer_plot.draw(read_study(study)))


def test_each_block_says_how_many_images_its_own_dataset_has(crossed: Path) -> None:
    study = read_study(crossed)
    blocks = accuracy_table.scores(study, accuracy_table.ACCURACY).blocks
    assert len(blocks) == 12
    for block in blocks:
        (run, *_) = [run for run in study.runs if "+".join(run.record.train) == block.facts["train"]]
        assert block.facts["test_images"] == str(len(run.scores[str(block.facts["dataset"])].images))


def test_page_shows_the_heat_maps_below_their_table(crossed: Path, alone: None) -> None:
    old = crossed / "report/plots/transfer.aji.png"
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(b"of a metric that is no longer drawn")
    build.build(crossed)
    page = (crossed / "report/index.html").read_text("utf-8")
    inside = page[page.index('<section id="transfer">') :]
    inside = inside[: inside.index("</section>")]
    assert 'aria-label="transfer.miou"' in inside
    assert page.count('aria-label="transfer.miou"') == 1
    assert not re.search(r'href="(?!#|data:image/png;base64,|tables/|plots/)', inside)
    assert not old.exists()
    assert build.check(crossed) == []
    value = re.search(r"UNet: mIoU \(%\) ([\d.]+) from", inside)
    assert value is not None
    changed = page.replace(value[0], value[0].replace(value[1], "99.99"))
    (crossed / "report/index.html").write_text(changed, "utf-8")
    assert build.check(crossed) == [f"{crossed / 'report/index.html'}: differs from the records"]
