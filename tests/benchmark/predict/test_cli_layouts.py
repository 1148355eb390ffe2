"""Polygons as layout files, from the verb: what they hold, and what is refused."""

from __future__ import annotations

import csv
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmark.data.formats.svg import read_svg
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import Predict

OAS = ("--polygons", "oas", "--nm-per-pixel", "10")


def test_polygons_come_as_layout_files_too(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    gdstk = pytest.importorskip("gdstk", reason="needs gdstk: pip install -e '.[layouts]'")
    save(tmp_path / "a.png", frame)
    scale = ("--nm-per-pixel", "10", "--layer-map", "track=68/20")
    code, _, err = predict("a.png", "--polygons", "gds,svg", *scale)
    assert code == 0, err
    assert {path.name for path in (tmp_path / "out/polygons").iterdir()} == {"a.gds", "a.svg"}
    manifest = json.loads((tmp_path / "out/manifest/a.json").read_text())
    assert manifest["settings"]["layouts"] == {
        "formats": ["gds"], "nm_per_pixel": 10.0, "track": [68, 20], "via": [2, 0], "tolerance": 0.0,
    }  # fmt: skip
    (cell,) = gdstk.read_gds(tmp_path / "out/polygons/a.gds").cells
    assert cell.name == "a"
    assert len(cell.polygons) == manifest["components"] == 3
    assert sum(polygon.area() for polygon in cell.polygons) == pytest.approx((frame >= 128).sum() * 1e-4)
    assert "finished before" in predict("a.png", "--polygons", "svg, gds", *scale)[1]
    code, _, err = predict("a.png", "--polygons", "gds,svg", *scale, "--tolerance", "1")
    assert code == 2
    assert "made otherwise (tolerance 0.0 there, 1.0 now);" in err
    assert predict("a.png", "--polygons", "oas", *scale, "--tolerance", "1", "--out", "oas")[0] == 0
    assert {path.name for path in (tmp_path / "oas/polygons").iterdir()} == {"a.oas"}
    (tmp_path / "out/polygons/a.gds").unlink()
    assert predict("a.png", "--polygons", "svg,gds", *scale)[0] == 0
    assert (tmp_path / "out/polygons/a.gds").is_file()


def test_folder_of_before_layout_files_goes_on(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame)
    assert predict("a.png")[0] == 0
    settings = json.loads((tmp_path / "out/manifest/a.json").read_text())["settings"]
    assert settings["polygons"] is True
    assert "layouts" not in settings


def test_vias_have_their_own_layer(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    gdstk = pytest.importorskip("gdstk", reason="needs gdstk: pip install -e '.[layouts]'")
    save(tmp_path / "a.png", frame)
    arguments = ("--polygons", "gds,svg", "--nm-per-pixel", "10", "--layer-map", "track=68/20,via=67/44")
    assert predict("a.png", *arguments, dataset="omv-syn")[0] == 0
    (cell,) = gdstk.read_gds(tmp_path / "out/polygons/a.gds").cells
    with (tmp_path / "out/vias/a.csv").open() as file:
        listed = [(float(row["x"]) + 0.5, 90 - float(row["y"]) - 0.5) for row in csv.DictReader(file)]
    assert {(polygon.layer, polygon.datatype) for polygon in cell.polygons} == {(67, 44)}
    assert len(cell.polygons) == len(listed) == 3
    assert len(read_svg(tmp_path / "out/polygons/a.svg").vias) == 3
    for polygon, (x, y) in zip(cell.polygons, listed, strict=True):
        (left, low), (right, high) = polygon.bounding_box()
        assert left < x / 100 < right
        assert low < y / 100 < high


def test_layout_files_without_gdstk_are_refused_before_any_work(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", frame)
    installed = find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "gdstk" else installed(name))
    code, _, err = predict("a.png", "--polygons", "gds", "--nm-per-pixel", "10")
    assert code == 2
    assert "--polygons gds: gdstk is not installed; pip install -e '.[layouts]'" in err
    assert not (tmp_path / "out").exists()
