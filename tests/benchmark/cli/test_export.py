"""The ``export`` verb: what it prints, what it refuses, that one failure does not stop the others."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.cli.export import cost
from benchmark.config import own_packages
from benchmark.predict.export import export_network
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.export_record import ExportRecord
from benchmark.report.tables.render import HINDERED
from tests.benchmark.conftest import TINY, Call
from tests.benchmark.predict.export import studies

TINYNET = f"{TINY}:TinyNet"
LOOKS = f"{studies.HERE}:Looks"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export_network, "TIMING", EfficiencySettings(warm_up=0, min_iterations=3, min_seconds=0))


def flags(models: str, *more: str, form: str = "torch") -> list[str]:
    return ["export", "--study", "small", "--models", models, "--format", form, "--threads", "1", *more]


def test_files_and_what_is_known_of_them(call: Call, tmp_path: Path) -> None:
    studies.make(tmp_path / "results/small", TINYNET)
    Image.fromarray(np.random.default_rng(0).integers(0, 2**16, (100, 120), np.uint16)).save(tmp_path / "chip.png")
    code, out, err = call(*flags(TINYNET, "--image", "chip.png"))
    assert (code, err) == (0, "")
    assert out.count("note: 16 bits mapped between the image's own") == 1
    file = Path("results/small/export/omc-syn.tinynet.0.pt2")
    record = ExportRecord.from_json(file.with_name(f"{file.name}.json").read_bytes())
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, f"{file.name}.json"]
    assert f"[1/1] omc-syn/tinynet/0: dynamic: batch, height, width (multiples of 1, at least 1) -> {file}" in out
    assert "image: chip.png" in out
    *_, shown = record.checks
    assert (shown.input, shown.height, shown.width) == ("chip.png", 96, 96)
    rows = [line.split() for line in out.splitlines() if line.startswith("tinynet")]
    assert [len(row) for row in rows] == [11, 6]  # "of" and "%" stand apart
    worst = max(record.checks[:-1], key=lambda check: check.max_difference)
    assert rows[0][1:] == [
        *(f"{worst.max_difference:.1e}", "of", f"{worst.max_logit:.3g}", "100.0000", "%"),
        *(f"{shown.max_difference:.1e}", "of", f"{shown.max_logit:.3g}", "100.0000", "%"),
    ]
    timing = record.timing
    assert (len(timing.exported.raw_ms), len(timing.torch.raw_ms), timing.threads) == (3, 3, 1)
    mark = HINDERED if timing.hindered else ""  # as the machine that runs the tests was loaded
    figures = (timing.exported.p50_ms, timing.torch.p50_ms, timing.ratio)
    assert rows[1][3:] == [f"{figure:.2f}{mark}" for figure in figures]
    for signs, marks in (((), 0), (("the processor was taken away for 64% of the time",), 3)):
        table = cost([record.model_copy(update={"timing": timing.model_copy(update={"hindered": signs})})])
        cells = [cell for column in table.columns for cell in column.cells]
        assert sum(HINDERED in str(cell) for cell in cells) == marks
        assert (HINDERED in str(table.caption)) == bool(marks)


def test_failing_network_is_a_line_and_the_others_go_on_without_an_image_and_elsewhere(
    call: Call, tmp_path: Path
) -> None:
    studies.make(tmp_path / "results/small", LOOKS, TINYNET)
    code, out, _ = call(*flags(f"{LOOKS},{TINYNET}", "--out", "elsewhere"))
    assert code == 1
    assert "note: compared on random images alone" in out
    first, second = (line for line in out.splitlines() if line.startswith("["))
    assert first.startswith("[1/2] omc-syn/looks/0: failed: ")
    assert second.startswith("[2/2] omc-syn/tinynet/0: dynamic: ")
    assert [path.name for path in Path("elsewhere").glob("*.pt2")] == ["omc-syn.tinynet.0.pt2"]
    assert not Path("results/small/export").exists()


def test_weights_that_cannot_be_read_are_such_a_failure(call: Call, tmp_path: Path) -> None:
    (trained,) = studies.make(tmp_path / "results/small", TINYNET)
    trained.file.write_bytes(b"")
    code, out, _ = call(*flags(TINYNET))
    assert code == 1
    assert "omc-syn/tinynet/0: failed: " in out
    assert "no safetensors file" in out


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package_is_named_with_the_extra_before_any_work(
    call: Call, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    there = {name: importlib.util.find_spec(name) for name in own_packages.CODE}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == missing else there.get(name, object()))
    code, _, err = call(*flags(TINYNET, form="onnx"))
    assert code == 2
    assert err == f"benchmark: --format onnx: {missing} is not installed; pip install -e '.[export]'\n"
    code, _, err = call(*flags(TINYNET, form="torch"))
    assert "not installed" not in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--out", "file"), "--out file: file is a file; expected a folder"),
        (("--image", "nowhere.png"), "nowhere.png: no such file; expected an image file"),
        (("--image", "small.png"), "--image small.png: 80x80 pixels; expected at least 96x96"),
        (("--repeat", "1"), "--repeat 1: --study small keeps weights of tinynet on omc-syn from repeat 0"),
        (("--datasets", "omc"), "has tinynet trained on omc-syn, not on omc"),
        (("--study", "none"), "--study none: no study in"),
    ],
)
def test_mistakes_end_before_any_work(call: Call, tmp_path: Path, more: tuple[str, ...], message: str) -> None:
    studies.make(tmp_path / "results/small", TINYNET)
    (tmp_path / "file").touch()
    Image.new("L", (80, 80)).save(tmp_path / "small.png")
    code, out, err = call(*flags(TINYNET), *more)
    assert (code, out) == (2, "")
    assert message in err
    assert not Path("results/small/export").exists()


def test_help_needs_no_torch(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    code, out, _ = call("export", "--help")
    assert code == 0
    assert "onnx" in out
