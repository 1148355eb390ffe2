"""Exported files: that they compute what torch computes, at which sizes, and that they need nothing of this project."""

from __future__ import annotations

import getpass
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import benchmark
from benchmark.config import registry
from benchmark.predict.export import export_formats, export_network
from benchmark.predict.export.capture import capture
from benchmark.predict.export.export_network import ExportError, Request
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.export_record import ExportRecord
from benchmark.records.weights import TrainedNetwork
from models.attention import PositionAttention, plain_attention, position_attention
from tests.benchmark.conftest import TINY
from tests.benchmark.predict.export import studies

FORMATS = [pytest.param("onnx", id="onnx"), pytest.param("torch", id="torch")]
SHORT = EfficiencySettings(warm_up=0, min_iterations=1, min_seconds=0)
Exported = tuple[TrainedNetwork, Path, ExportRecord]


def export(trained: TrainedNetwork, out: Path, form: str) -> Exported:
    if form == "onnx":
        for package in export_formats.FORMATS["onnx"].packages:
            pytest.importorskip(package, reason="needs the extra: pip install -e '.[export]'")
    return trained, *export_network.export(trained, Request("small", form, out, None, 1, SHORT))


def logits_of(file: Path, image: np.ndarray) -> np.ndarray:
    """Run a file as its users will."""
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(torch.from_numpy(image)).detach().numpy()
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (image_in,), (logits_out,) = session.get_inputs(), session.get_outputs()
    assert (image_in.name, logits_out.name) == ("image", "logits")
    return session.run(None, {"image": image})[0]


def assert_equal_to_torch(trained: TrainedNetwork, file: Path, *shapes: tuple[int, int, int]) -> None:
    for batch, height, width in shapes:
        image = torch.rand(batch, trained.channels, height, width)
        with torch.inference_mode():
            logits, exact = trained.build()(image).double(), trained.build().double()(image.double())
        result = torch.from_numpy(logits_of(file, image.numpy()))
        assert result.shape == logits.shape
        # ContextNet is an amplifier of rounding: torch itself is off by as much.
        allowed = max(1e-4 * exact.abs().max(), 4 * (logits - exact).abs().max())
        assert (result - exact).abs().max() <= allowed


@pytest.fixture(scope="module")
def of_tiny(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    folder = tmp_path_factory.mktemp("small")
    (trained,) = studies.make(folder / "small", f"{TINY}:TinyNet")
    created: dict[str, Exported] = {}

    def get(form: str) -> Exported:
        if form not in created:
            created[form] = export(trained, folder / "out", form)
        return created[form]

    return get


CONTEXTNETS = [pytest.param("contextnet", form, marks=pytest.mark.slow) for form in ("onnx", "torch")]


@pytest.mark.parametrize(("name", "form"), [("eal_icnet", "onnx"), *CONTEXTNETS])
def test_light_networks_take_any_size_and_number(tmp_path: Path, name: str, form: str) -> None:
    (trained,) = studies.make(tmp_path / "small", name)
    _, file, record = export(trained, tmp_path / "out", form)
    assert record.dynamic == ("batch", "height", "width")
    assert_equal_to_torch(trained, file, (1, 96, 96), (3, 72, 136), (2, 160, 64))


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("name", [entry.name for entry in registry.select("all")])
def test_every_network_takes_any_size_and_number(tmp_path: Path, name: str, form: str) -> None:
    (trained,) = studies.make(tmp_path / "small", name)
    _, file, record = export(trained, tmp_path / "out", form)
    assert record.dynamic == ("batch", "height", "width")
    assert_equal_to_torch(trained, file, (1, 96, 96), (5, 64, 192))


@pytest.mark.parametrize("form", FORMATS)
def test_record_says_what_is_in_the_file(of_tiny: Callable[[str], Exported], form: str) -> None:
    trained, file, record = of_tiny(form)
    assert file.name == f"omc-syn.tinynet.0{'.onnx' if form == 'onnx' else '.pt2'}"
    assert ExportRecord.from_json(file.with_name(f"{file.name}.json").read_bytes()) == record
    assert record.size_bytes == file.stat().st_size
    assert record.weights_bytes == trained.file.stat().st_size
    assert (record.opset, record.dynamic) == (18 if form == "onnx" else None, ("batch", "height", "width"))
    # One row per input; no TinyNet is more than rounding away from torch.
    assert [(check.batch, check.height, check.width) for check in record.checks][:2] == [(1, 96, 96), (3, 97, 161)]
    assert all(check.max_difference < 1e-5 * max(1, check.max_logit) for check in record.checks)
    assert record.metadata["size"].startswith("multiples of 1, at least ")
    assert any(check.height == int(record.metadata["size"].rpartition(" ")[2]) for check in record.checks)
    assert record.timing.ratio == record.timing.exported.p50_ms / record.timing.torch.p50_ms
    assert record.notes == ("compared on random images alone; name one of yours by --image FILE",)


@pytest.mark.parametrize("form", FORMATS)
def test_file_holds_its_metadata(of_tiny: Callable[[str], Exported], form: str) -> None:
    trained, file, record = of_tiny(form)
    if form == "onnx":
        onnx = pytest.importorskip("onnx")
        model = onnx.load(file)
        result = {entry.key: entry.value for entry in model.metadata_props}
        axes = [
            [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
            for value in (model.graph.input[0], model.graph.output[0])
        ]
        assert axes == [["batch", 1, "height", "width"]] * 2
        assert [entry.version for entry in model.opset_import if not entry.domain] == [18]
    else:
        files = {"metadata.json": ""}
        torch.export.load(file, extra_files=files)
        result = json.loads(files["metadata.json"])
    assert result == record.metadata
    assert result["weights_sha256"] == hashlib.sha256(trained.file.read_bytes()).hexdigest()
    assert (result["model"], result["study"], result["training_set"], result["repeat"]) == (
        *("tinynet", "small", "omc-syn", "0"),
    )


def test_licence_is_the_project_s() -> None:
    project = tomllib.loads((Path(benchmark.__file__).parents[1] / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["license"] == export_network.LICENCE


@pytest.mark.parametrize("form", FORMATS)
def test_nothing_tells_of_the_machine(of_tiny: Callable[[str], Exported], form: str) -> None:
    _, file, _ = of_tiny(form)
    telling = {str(Path(benchmark.__file__).parents[1]), str(Path.home()), sys.prefix, socket.gethostname()}
    telling |= {getpass.getuser()} if len(getpass.getuser()) > 4 else set()  # short ones are part of other words
    for content in (file.read_bytes(), file.with_name(f"{file.name}.json").read_bytes()):
        assert [word for word in telling if word.encode() in content] == []
        assert re.search(rb"[\\/][\w.-]+\.py", content) is None  # lines of the exporter's or the network's files


@pytest.mark.parametrize("form", FORMATS)
def test_same_call_gives_the_same_bytes(of_tiny: Callable[[str], Exported], tmp_path: Path, form: str) -> None:
    trained, file, _ = of_tiny(form)
    assert export(trained, tmp_path, form)[1].read_bytes() == file.read_bytes()


@pytest.mark.slow  # starts a process
def test_saved_program_needs_nothing_of_this_project(of_tiny: Callable[[str], Exported], tmp_path: Path) -> None:
    trained, file, _ = of_tiny("torch")
    np.save(tmp_path / "image.npy", image := np.random.default_rng(1).random((2, 1, 40, 56), np.float32))
    program = f"""
        import sys
        for name in ("benchmark", "models", "baselines", "tests"):
            sys.modules[name] = None  # importing one would raise
        import numpy, torch
        module = torch.export.load({str(file)!r}).module()
        numpy.save("logits.npy", module(torch.from_numpy(numpy.load("image.npy"))).detach().numpy())
    """
    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=tmp_path,
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    with torch.inference_mode():
        expected = trained.build()(torch.from_numpy(image)).numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), expected, rtol=0, atol=1e-6)


@pytest.mark.slow  # torch.export takes seconds for EAL-ICNet
def test_position_attention_is_captured_in_its_plain_form_and_stays_as_it_was(tmp_path: Path) -> None:
    (trained,) = studies.make(tmp_path / "small", "eal_icnet")
    network = trained.build()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    program = capture(network, 1, 96, 8)
    operations = {str(node.target) for node in program.graph.nodes}
    assert "aten.softmax.int" in operations
    assert not any("scaled_dot_product" in name for name in operations)
    layers = [layer for layer in network.modules() if isinstance(layer, PositionAttention)]
    assert [layer.attend for layer in layers] == [position_attention]
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    # What makes the comparison tell: without the attention the logits are others.
    image = torch.rand(1, 1, 96, 96)
    with torch.inference_mode(), plain_attention(network):
        logits = network(image)
        network.pam.gamma.zero_()
        assert (network(image) - logits).abs().max() > 1e-2


def test_network_of_one_size_is_exported_with_it_and_the_record_says_why(tmp_path: Path) -> None:
    (trained,) = studies.make(tmp_path / "small", f"{studies.HERE}:OneSize")
    _, file, record = export(trained, tmp_path / "out", "torch")
    assert (record.dynamic, record.metadata["size"]) == (("batch",), "96x96 only")
    assert record.narrowed_because
    assert {(check.height, check.width) for check in record.checks} == {(96, 96)}
    assert_equal_to_torch(trained, file, (1, 96, 96), (4, 96, 96))


def test_where_odd_multiples_do_not_hold_even_ones_are_tried(tmp_path: Path) -> None:
    (trained,) = studies.make(tmp_path / "small", f"{studies.HERE}:HalfSizes")
    _, file, record = export(trained, tmp_path / "out", "torch")
    assert record.dynamic == ("batch", "height", "width")
    assert record.metadata["size"].startswith("multiples of 2, ")
    assert record.narrowed_because
    assert_equal_to_torch(trained, file, (2, 64, 38))


@pytest.mark.parametrize("form", FORMATS)
def test_three_channels(tmp_path: Path, form: str) -> None:
    (trained,) = studies.make(tmp_path / "small", f"{TINY}:TinyNet", settings=("input.channels=3",))
    _, file, record = export(trained, tmp_path / "out", form)
    assert "RGB, [0, 1]" in record.metadata["input"]
    assert_equal_to_torch(trained, file, (2, 64, 80))


def test_what_cannot_be_captured_leaves_no_file(tmp_path: Path) -> None:
    (trained,) = studies.make(tmp_path / "small", f"{studies.HERE}:Looks")
    with pytest.raises(ExportError, match=r"[Dd]ata-dependent|control flow"):
        export(trained, tmp_path / "out", "torch")
    assert not (tmp_path / "out").exists()


def test_file_that_computes_something_else_is_not_written(
    of_tiny: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, _, _ = of_tiny("torch")
    kind = export_formats.FORMATS["torch"]

    def off_by(amount: float) -> export_formats.Format:
        def read(content: bytes, threads: int) -> export_formats.Forward:
            forward = kind.read(content, threads)
            return lambda image: forward(image) + np.float32(amount)

        return replace(kind, read=read)

    monkeypatch.setattr(export_network, "FORMATS", {"torch": off_by(1e-5)})
    export(trained, tmp_path / "close", "torch")
    monkeypatch.setattr(export_network, "FORMATS", {"torch": off_by(1e-2)})
    with pytest.raises(ExportError, match=r"logits differ by 0\.01 of \S+ at 1 x 96x96 \(random\)"):
        export(trained, tmp_path / "far", "torch")
    assert not (tmp_path / "far").exists()


def test_file_that_holds_at_one_size_alone_is_written_for_that_size(
    of_tiny: Callable[[str], Exported], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained, _, _ = of_tiny("torch")
    kind = export_formats.FORMATS["torch"]

    def read(content: bytes, threads: int) -> export_formats.Forward:
        forward = kind.read(content, threads)
        return lambda image: forward(image) * (1 if image.shape[-2:] == (96, 96) else 2)

    monkeypatch.setattr(export_network, "FORMATS", {"torch": replace(kind, read=read)})
    _, _, record = export(trained, tmp_path, "torch")
    assert record.dynamic == ("batch",)
    assert "logits differ by" in str(record.narrowed_because)
