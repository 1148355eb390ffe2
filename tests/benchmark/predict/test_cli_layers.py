"""The verb with networks of several layers: the files of all layers, names from records and flags, and scores."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file

import benchmark
from benchmark.config import registry
from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats.all_formats import read_label
from benchmark.data.synthetic import generate
from benchmark.data.tasks import Task
from benchmark.devices.hardware_slots import Hardware
from benchmark.predict.export import export_network
from benchmark.predict.overlay import COLOURS, LEGEND
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.export_record import ExportRecord
from benchmark.records.store import WEIGHTS
from benchmark.runs.train import train_and_test
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from tests.benchmark.conftest import SMALL, Call
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import TINYNET, brightness, contents, pixels_of
from tests.benchmark.tiny import TinyNet

GROUND, TRACK, VIA = 60, 150, 240


def steps(*least: float) -> TinyNet:
    """A network whose logit i is 0 where a pixel has the i-th gray value."""
    network, single = TinyNet(classes=len(least)).eval(), brightness()
    state = single.state_dict()
    state["head.weight"] = torch.zeros(len(least), 4, 1, 1)
    state["head.weight"][:, 0] = 60
    state["head.bias"] = -60 / 255 * torch.tensor(least)
    network.load_state_dict(state)
    return network


@pytest.fixture(scope="session")
def layered(tmp_path_factory: pytest.TempPathFactory, cache: Path) -> Path:
    """A folder of studies with ``both``: tracks are brighter than the ground, and vias brighter than tracks."""
    folder = tmp_path_factory.mktemp("layered")
    protocol = load_protocol("quick", [*SMALL, "repeats=2"])
    (source,) = resolve("omc_omv-syn", cache / "no data", protocol, HashCache(cache / "hashes.json"))
    task = Task((source,), (source,))
    study = Study(folder / "both", protocol, registry.select(TINYNET), [task], Hardware("cpu", 1), cache)
    for job in make_plan(study).todo:
        train_and_test(replace(job, keep_weights="all"), lambda *_: None)
    for file in folder.rglob(WEIGHTS):
        save_file(steps((GROUND + TRACK) / 2, (TRACK + VIA) / 2).state_dict(), file)
    study.store.write_protocol(protocol)
    return folder


@pytest.fixture
def layout() -> dict[str, NDArray[np.bool_]]:
    sample = generate("hy5syn", 4, height=150, width=170, seed=1)
    return {"track": sample.track | sample.via, "via": sample.via}


@pytest.fixture
def image(layout: dict[str, NDArray[np.bool_]], tmp_path: Path) -> Path:
    pixels = np.where(layout["via"], VIA, np.where(layout["track"], TRACK, GROUND)).astype(np.uint8)
    return save(tmp_path / "a.png", pixels)


def words(results: Path, *more: str) -> tuple[str, ...]:
    study = ("--results", str(results), "--study", "both", "--models", TINYNET, "--out", "out", "--tile", "32")
    return ("predict", "a.png", *study, "--device", "cpu", *more)


def test_one_call_writes_all_layers(
    call: Call, layered: Path, layout: dict[str, NDArray[np.bool_]], image: Path, tmp_path: Path
) -> None:
    code, _, err = call(*words(layered, "--probability"))
    assert code == 0, err
    assert sorted(contents(tmp_path / "out")) == [
        *("manifest/a.json", "mask_track/a.png", "mask_via/a.png", "netlist/a.csv", "netlist/a.json"),
        *("overlay/a.png", "polygons/a.svg", "probability_track/a.png", "probability_via/a.png", "vias/a.csv"),
    ]
    for layer, mask in layout.items():
        np.testing.assert_array_equal(pixels_of(f"out/mask_{layer}/a.png"), mask * np.uint8(255))
        np.testing.assert_array_equal(pixels_of(f"out/probability_{layer}/a.png") >= 128, mask)
        np.testing.assert_array_equal(read_label(Path("out/polygons/a.svg"), layer, mask.shape).mask, mask)
    manifest = json.loads(Path("out/manifest/a.json").read_text())
    assert manifest["settings"]["layers"] == ["track", "via"]
    assert manifest["foreground_px"] == {layer: mask.sum() for layer, mask in layout.items()}
    netlist = json.loads(Path("out/netlist/a.json").read_text())
    with Path("out/netlist/a.csv").open() as file:
        assert [int(row["vias"]) for row in csv.DictReader(file)] == [len(net["vias"]) for net in netlist["nets"]]
    with Path("out/vias/a.csv").open() as file:
        assert [row["net_track"] for row in csv.DictReader(file)] == [str(via["net_track"]) for via in netlist["vias"]]
    assert manifest["components"] == {"track": len(netlist["nets"]), "via": len(netlist["vias"])}
    before = contents(tmp_path / "out")
    assert "finished before" in call(*words(layered, "--probability"))[1]
    Path("out/mask_via/a.png").unlink()
    assert call(*words(layered, "--probability"))[0] == 0
    assert contents(tmp_path / "out") == before


def test_predicted_folder_scores_perfectly_against_its_layout(
    call: Call, layered: Path, layout: dict[str, NDArray[np.bool_]], image: Path, tmp_path: Path
) -> None:
    assert call(*words(layered))[0] == 0
    for layer, mask in layout.items():
        save(tmp_path / f"truth/label_{layer}/a.png", mask * np.uint8(255))
    rules = ("--protocol", "quick", "--no-cldice", "--out", "scores")
    code, _, err = call("score", "--truth", "truth", "--prediction", "out", *rules)
    assert code == 0, err
    figures = json.loads(Path("scores/summary.json").read_text())["layers"]
    assert figures["track"]["metrics"]["pooled"]["net_error_rate"] == 0
    assert figures["via"]["metrics"]["pooled"]["connection_error_rate"] == 0
    assert figures["via"]["metrics"]["pooled"]["via_f1"] == 1
    written = Path("scores/images.via.csv").read_text()
    assert call("score", "--truth", "out/polygons", "--prediction", "out", *rules, "--target", "track+via")[0] == 0
    assert Path("scores/images.via.csv").read_text() == written  # the SVG holds the same layers


def test_python_gives_masks_by_layer(layered: Path, layout: dict[str, NDArray[np.bool_]], image: Path) -> None:
    study = benchmark.load(layered / "both")
    for network in (study.network(TINYNET, device="cpu"), study.network(TINYNET, device="cpu", repeats="all")):
        masks = network.predict(image, tile=32)
        assert [*masks] == list(network.layers) == ["track", "via"]
        for layer, mask in layout.items():
            np.testing.assert_array_equal(masks[layer], mask)
        assert network.probability(image, tile=32)["via"].dtype == np.float32
        larger = network.predict(image)  # tries tiles
        assert all(np.array_equal(larger[layer], mask) for layer, mask in layout.items())


def test_overlay_has_a_colour_a_layer_and_a_legend(
    call: Call, layered: Path, layout: dict[str, NDArray[np.bool_]], image: Path
) -> None:
    assert call(*words(layered))[0] == 0
    picture = pixels_of("out/overlay/a.png")
    assert picture.shape == (150 + LEGEND, 170, 3)
    colours = json.loads(Path("out/manifest/a.json").read_text())["colours"]
    assert colours == {"track": "#f0e442", "via": "#e63c28"}
    for colour in COLOURS[:2]:
        shown = (picture == colour).all(axis=-1)
        assert shown[:150].any()
        assert shown[150:].any()
    assert (picture[:150] == COLOURS[1]).all(axis=-1)[~layout["via"]].sum() == 0


def test_layout_files_hold_a_layer_for_each(
    call: Call, layered: Path, layout: dict[str, NDArray[np.bool_]], image: Path
) -> None:
    gdstk = pytest.importorskip("gdstk", reason="needs gdstk: pip install -e '.[layouts]'")
    scale = ("--polygons", "gds,oas", "--nm-per-pixel", "10", "--layer-map", "via=67/44")
    code, _, err = call(*words(layered, *scale))
    assert code == 0, err
    for name, read in (("a.gds", gdstk.read_gds), ("a.oas", gdstk.read_oas)):
        (cell,) = read(Path("out/polygons") / name).cells
        for layer, number in (("track", (1, 0)), ("via", (67, 44))):
            drawn = [polygon for polygon in cell.polygons if (polygon.layer, polygon.datatype) == number]
            assert sum(polygon.area() for polygon in drawn) == pytest.approx(layout[layer].sum() * 1e-4)
    manifest = json.loads(Path("out/manifest/a.json").read_text())
    assert manifest["settings"]["layouts"]["via"] == [67, 44]


def test_weights_from_elsewhere_need_the_names_of_their_layers(
    call: Call, layout: dict[str, NDArray[np.bool_]], image: Path
) -> None:
    save_file(steps((GROUND + TRACK) / 2, (TRACK + VIA) / 2).state_dict(), "lab.safetensors")
    lab = ("predict", "a.png", "--weights", "lab.safetensors", "--models", TINYNET, "--device", "cpu", "--out", "out")
    code, _, err = call(*lab, "--tile", "32", "--layers", "metal, via")
    assert code == 0, err
    # HY5SYN's metal holds the vias, so each layer has an SVG of its own.
    for layer, mask in (("metal", layout["track"]), ("via", layout["via"])):
        np.testing.assert_array_equal(pixels_of(f"out/mask_{layer}/a.png") > 0, mask)
        np.testing.assert_array_equal(read_label(Path(f"out/polygons_{layer}/a.svg"), layer, mask.shape).mask, mask)
    network = benchmark.network(TINYNET, "lab.safetensors", size=32, layers=["m1", "via"], device="cpu")
    assert [*network.predict(image)] == ["m1", "via"]
    for flags, message in (
        ((), "lab.safetensors: 2 logits, but --layers names none; expected a name for each, in their order: such as"),
        (("--layers", "a,b,c"), "lab.safetensors: 2 logits, but --layers names a, b, c; expected a name for each"),
        (("--layers", "track,track"), "--layers track,track: 'track+track' names a layer twice"),
        (("--layers", "track,"), "--layers track,: layer ''; expected names of a-z"),
    ):
        code, _, err = call(*lab, *flags)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
    save_file(brightness().state_dict(), "lab.safetensors")
    code, _, err = call(*lab, "--layers", "track,via")
    assert (code, "1 logit, but --layers names track, via" in err, "leave the flag out" in err) == (2, True, True)


def test_flags_that_do_not_go_with_layers_are_refused(call: Call, layered: Path, image: Path) -> None:
    for flags, message in (
        (("--layers", "track,via"), "--layers track,via: for --weights only"),
        (("--no-vias",), "--no-vias: omc_omv-syn/tinynet/"),
        (("--polygons", "gds", "--nm-per-pixel", "1", "--layer-map", "m1=1/0"), "expected track=LAYER/DATATYPE, via="),
        (
            ("--polygons", "gds", "--nm-per-pixel", "1", "--layer-map", "track=2/0"),
            "--layer-map: track and via are both 2/0; expected another number for each",
        ),
    ):
        code, _, err = call(*words(layered, *flags))
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
    assert not Path("out").exists()


@pytest.mark.usefixtures("blank_figures")
def test_overlaps_are_studied_for_all_layers_together(call: Call, layered: Path, image: Path) -> None:
    flags = words(layered, "--overlap-study")
    code, out, err = call(*flags)
    assert code == 0, err
    assert f"of {2 * 150 * 170:,} mask pixels differ" in out


def test_export_has_a_channel_a_layer_and_names_them(
    call: Call, layered: Path, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_network, "TIMING", EfficiencySettings(warm_up=0, min_iterations=3, min_seconds=0))
    study = ("--results", str(layered), "--study", "both", "--models", TINYNET, "--out", "export", "--threads", "1")
    formats = ["torch", *(["onnx"] if all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))) else [])]
    for name in formats:
        code, _, err = call("export", *study, "--format", name, "--image", "a.png")
        assert code == 0, err
    for file in (tmp_path / "export").glob("*.json"):
        record = ExportRecord.from_json(file.read_bytes())
        assert record.metadata["layers"] == "track, via"
        assert record.metadata["output"].startswith("logits: float32 (batch, 2, height, width), foreground's")
        assert {check.pixels for check in record.checks if check.input == "a.png"} == {2 * 32 * 32}
        assert sum(check.differing_pixels for check in record.checks) == 0
    (file,) = (tmp_path / "export").glob("*.pt2")
    logits = torch.export.load(file).module()(torch.full((1, 1, 32, 32), (TRACK + 10) / 255))
    assert (logits >= 0).flatten(2).all(2).tolist() == [[True, False]]
    save_file(steps(100, 200).state_dict(), "lab.safetensors")
    lab = ("--weights", "lab.safetensors", "--models", TINYNET, "--trained-at", "32", "--threads", "1")
    code, _, err = call("export", *lab, "--layers", "m1,m2", "--format", "torch", "--out", "lab")
    assert code == 0, err
    assert json.loads(Path("lab/tinynet.lab.pt2.json").read_text())["metadata"]["layers"] == "m1, m2"


@pytest.mark.usefixtures("blank_figures")
def test_stages_draw_a_network_of_several_layers(call: Call, layered: Path, image: Path) -> None:
    study = ("--results", str(layered), "--study", "both", "--models", TINYNET, "--out", "stages")
    code, out, err = call("stages", *study, "--image", "a.png")
    assert code == 0, err
    assert "omc_omv-syn/tinynet/" in out
    assert Path("stages/omc_omv-syn.a.principal.png").is_file()
    save_file(steps(100, 200).state_dict(), "lab.safetensors")
    lab = ("--weights", "lab.safetensors", "--models", TINYNET, "--layers", "track,via")
    assert call("stages", *lab, "--image", "a.png", "--out", "lab")[0] == 0
