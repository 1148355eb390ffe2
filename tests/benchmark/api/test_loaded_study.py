"""Tables, plots and networks of a study that was read."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmark
from benchmark.report.build import build
from tests.benchmark.conftest import TINY, Call

OWN = f"{TINY}:TinyNet"  # the finished study was copied, so that its file is no longer beside it
REFERENCE = Path(__file__).parents[3] / "results/reference-quick"


def test_tables_hold_the_figures_of_the_report(finished: Path) -> None:
    study = benchmark.load(finished)
    for name in ("accuracy", "electrical", "efficiency", "training"):
        frame = study.table(name)
        with (finished / f"report/tables/{name}.csv").open() as file:
            for row in csv.DictReader(file):
                if row["mean"]:
                    cells = frame[frame.index.get_level_values("model") == row["model"]][row["metric"]]
                    assert any(np.isclose(cells["mean"], float(row["mean"]), rtol=0, atol=0)), (name, row)
                    assert int(row["n"]) in cells["n"].tolist()


def test_every_table_of_a_report_has_its_name(tmp_path: Path) -> None:
    folder = shutil.copytree(REFERENCE, tmp_path / "quick")
    build(folder, plots=(), page_only=True)
    study = benchmark.load(folder)
    files = {path.stem for path in (folder / "report/tables").glob("*.csv")}
    assert {"methods", "networks", "custom"} <= files
    for name in files:
        with (folder / f"report/tables/{name}.csv").open() as file:
            lines = list(csv.DictReader(file))
        frame = study.table(name)
        assert set(frame.index.get_level_values("model")) == {line["model"] for line in lines}, name
    assert study.table("custom")["net_error_rate"]["n"].max() == 3
    compared = study.table("methods")
    assert compared.attrs["reference"] == "eal_icnet"
    assert len(compared.loc["omc-syn"].xs("miou", level="metric")) == 10
    assert compared["difference"].dtype == float


def test_table_for_a_paper_is_there_once_it_was_chosen(finished: Path, call: Call) -> None:
    with pytest.raises(benchmark.UserError, match=r"no table 'custom': nobody chose one for .*quick; `report STUDY"):
        benchmark.load(finished).table("custom")
    assert call("report", "quick", "--columns", "miou,params")[0] == 0
    assert {"miou.image", "params"} == set(benchmark.load(finished).table("custom").columns.levels[0]) - {"remark"}


def test_runs_and_images_are_rows(finished: Path) -> None:
    study = benchmark.load("quick", results=finished.parent)
    runs, images = study.table("runs"), study.table("images")
    assert runs[["model", "repeat", "status"]].values.tolist() == [["tinynet", 0, "ok"], ["tinynet", 1, "ok"]]
    assert len(images) == 2 * 2  # test images of two repeats
    means = images.groupby("repeat")["miou"].mean()
    assert runs["metrics.omc-syn.image.miou"].tolist() == pytest.approx(means.tolist())


def test_several_studies_are_one_and_the_best_of_all_networks_predicts(finished: Path, tmp_path: Path) -> None:
    other = shutil.copytree(finished, tmp_path / "other")
    shutil.rmtree(other / "runs/omc-syn/tinynet")
    study = benchmark.load(other, finished)
    assert repr(study) == "<other + quick: 2 runs of tinynet on omc-syn>"
    losses = study.table("runs").set_index("repeat")["training.best_validation_loss"]
    assert study.network(OWN, device="cpu").trained.record.repeat == losses.idxmin()
    with pytest.raises(benchmark.UserError, match="repeat=1: several studies have such a repeat"):
        study.network(OWN, repeat=1)


def test_missing_figures_have_no_repeats_and_remarks_qualify_rows() -> None:
    frame = benchmark.load(REFERENCE).table("efficiency")
    counts = frame.xs("n", axis=1, level=1)
    assert counts.notna().all(axis=None)
    assert (counts == 0).any(axis=None)
    assert frame["remark"].astype(str).str.contains("cut short by the budget").any()


def test_plots_are_figures_by_the_names_of_their_files() -> None:
    plots = benchmark.load(REFERENCE).plots("training")
    assert plots
    for figure in plots.values():
        assert figure.axes
    assert figure._repr_png_()[:4] == b"\x89PNG"  # type: ignore[attr-defined]  # a notebook asks for it


def test_network_predicts_files_and_arrays_as_the_verb_does(finished: Path, call: Call, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (150, 90), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "scan.png")
    code, _, err = call("predict", "scan.png", "--study", "quick", "--models", OWN, "--out", "masks")
    assert code == 0, err
    expected = np.asarray(Image.open(tmp_path / "masks/mask/scan.png")) > 0
    network = benchmark.load(finished).network(OWN, device="cpu")
    assert repr(network).endswith("/tinynet/1 on cpu>") or repr(network).endswith("/tinynet/0 on cpu>")
    mask = network.predict(pixels)
    assert mask.dtype == bool
    assert np.array_equal(mask, expected)
    assert np.array_equal(network.predict(tmp_path / "scan.png"), mask)
    assert np.array_equal(network.probability(str(tmp_path / "scan.png")) >= 0.5, mask)
    wide = network.predict(pixels.astype(np.uint16) * 200)
    assert wide.shape == mask.shape


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros((8, 8)), r"image: an array \(8, 8\) of float64; expected \(H, W\) or \(H, W, 3\) of uint8 or uint16"),
        (np.zeros((0, 8), np.uint8), r"an array \(0, 8\)"),
        (np.zeros((8, 8, 4), np.uint8), r"an array \(8, 8, 4\)"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_other_images_are_refused(finished: Path, wrong: object, message: str) -> None:
    network = benchmark.load(finished).network(OWN, device="cpu")
    with pytest.raises(benchmark.UserError, match=message):
        network.predict(wrong)  # type: ignore[arg-type]


def test_unknown_names_are_told(finished: Path) -> None:
    study = benchmark.load(finished)
    with pytest.raises(benchmark.UserError, match=r"no table 'acuracy'; did you mean 'accuracy'\?"):
        study.table("acuracy")
    with pytest.raises(benchmark.UserError, match=r"no plots of 'runs'.*expected accuracy, electrical"):
        study.plots("runs")
    with pytest.raises(benchmark.UserError, match=r"no network 'tinynett'; did you mean 'tinynet'\?; expected one of"):
        study.network("tinynett")
    assert study.table().index.names == ["dataset", "model"]
    assert study.table().attrs["protocol"] == "quick"
    with pytest.raises(benchmark.UserError, match="without a study"):
        benchmark.load()
    with pytest.raises(benchmark.UserError, match=r"no study in|no such file"):
        benchmark.load("nothing", results=finished.parent)
