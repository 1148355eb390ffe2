"""Networks computed by other runtimes: the same logits, the fastest by timings, and clear refusals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmark.config import registry
from benchmark.evaluation.ensemble import Ensemble, probabilities_of
from benchmark.predict import runtimes
from benchmark.predict.export.export_formats import Array, Forward, of_module
from benchmark.predict.fused_network import FusedNetwork, ready
from benchmark.predict.runtimes import (
    RUNTIMES,
    Deployment,
    RefusedRuntimeError,
    Runtime,
    RuntimeName,
    RuntimeNetwork,
    open_runtime,
    run_by,
    runtime_of,
)
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.speedup.networks import build
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import save
from tests.benchmark.devices.test_launch_mode import needs_a_compiler
from tests.benchmark.predict.conftest import Predict, brightness, contents
from tests.benchmark.predict.export import studies

SIDE = 32


def installed(name: RuntimeName) -> None:
    for package in RUNTIMES[name].packages:
        pytest.importorskip(package, reason="needs the extra: pip install -e '.[runtimes]'")


@pytest.fixture
def fused() -> FusedNetwork:
    return ready(brightness(), (1, 1, SIDE, SIDE))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtimes, "CHOOSING", EfficiencySettings(warm_up=1, min_iterations=2, min_seconds=0))


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every other runtime is torch itself, under its own name, with packages that are there."""

    def opened(name: RuntimeName) -> Runtime:
        def open_(deployment: Deployment) -> nn.Module:
            network = deployment.network
            return RuntimeNetwork(name, {1: lambda image: network(torch.from_numpy(image)).detach().numpy()})

        return replace(RUNTIMES[name], packages=("torch",), open=open_)

    others = {name: opened(name) for name in RUNTIMES if name != "torch"}
    monkeypatch.setattr(runtimes, "RUNTIMES", {**RUNTIMES, **others})


def assert_computes_as(network: nn.Module, expected: nn.Module, images: Tensor) -> None:
    with torch.inference_mode():
        logits, truth = network(images), expected(images)
    assert (logits - truth).abs().max() <= 1e-4 * truth.abs().max().clamp(min=1)
    assert truth.std() > 1e-3


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "name",
    ["torch", "onnxruntime", "openvino", pytest.param("compile", marks=[pytest.mark.slow, needs_a_compiler])],
)
def test_runtime_computes_the_logits_of_torch(fused: FusedNetwork, name: RuntimeName, batch: int) -> None:
    installed(name)
    network = open_runtime(name, Deployment(fused, 1, SIDE, 1, batch))
    for images in (batch, 2):  # a full stack, and an incomplete or longer one
        assert_computes_as(network, fused, torch.rand(images, 1, SIDE, SIDE))


def test_program_of_one_image_computes_what_is_no_full_stack() -> None:
    calls: list[tuple[int, int]] = []

    def program(count: int) -> Forward:
        def forward(images: Array) -> Array:
            calls.append((count, len(images)))
            return images + 1

        return forward

    network = RuntimeNetwork("openvino", {4: program(4), 1: program(1)})
    for count in (4, 2, 1):
        images = torch.rand(count, 1, 8, 8)
        torch.testing.assert_close(network(images), images + 1)
    assert calls == [(4, 4), (1, 1), (1, 1), (1, 1)]


@pytest.mark.usefixtures("pretended")
def test_logits_are_compared_for_full_stacks_and_single_images(
    fused: FusedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_(deployment: Deployment) -> nn.Module:
        def wrong(images: Array) -> Array:
            return of_module(deployment.network)(images) + 0.02

        right = of_module(deployment.network)
        return RuntimeNetwork("openvino", {4: wrong if at == 4 else right, 1: wrong if at == 1 else right})

    monkeypatch.setattr(runtimes, "RUNTIMES", {"openvino": replace(runtimes.RUNTIMES["openvino"], open=open_)})
    for at in (1, 4):
        with pytest.raises(RefusedRuntimeError, match=rf"logits differ by 0\.02 of \d.* at {at} x {SIDE}x{SIDE}"):
            open_runtime("openvino", Deployment(fused, 1, SIDE, 1, batch=4))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_attention_s_network_too(name: RuntimeName) -> None:
    installed(name)
    network = ready(build(registry.models()["eal_icnet"]), (1, 1, 64, 64))
    assert_computes_as(open_runtime(name, Deployment(network, 1, 64, 1, batch=3)), network, torch.rand(3, 1, 64, 64))


def test_difference_is_refused_with_its_size_and_the_tolerance(
    fused: FusedNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    def open_(deployment: Deployment) -> nn.Module:
        return RuntimeNetwork("openvino", {1: lambda image: deployment.network(torch.from_numpy(image)).numpy() + 0.02})

    wrong = Runtime("OpenVINO", ("torch",), open_)
    monkeypatch.setattr(runtimes, "RUNTIMES", {**RUNTIMES, "openvino": wrong})
    with pytest.raises(UserError, match=r"--runtime openvino: logits differ by 0\.02 of \d.*; expected at most 0.0001"):
        run_by("openvino", fused, 1, SIDE, 1, 4)


def test_missing_package_names_the_extra(fused: FusedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = replace(RUNTIMES["openvino"], packages=("torch", "no_such_package"))
    monkeypatch.setattr(runtimes, "RUNTIMES", {**RUNTIMES, "openvino": absent})
    message = r"--runtime openvino: no_such_package is not installed; pip install -e '.\[runtimes\]'"
    with pytest.raises(UserError, match=message):
        run_by("openvino", fused, 1, SIDE, 1, 4)


def test_network_that_cannot_be_captured_is_refused() -> None:
    installed("onnxruntime")
    network = FusedNetwork(studies.Looks())
    with pytest.raises(RefusedRuntimeError, match=r"[Dd]ata-dependent|control flow"):
        open_runtime("onnxruntime", Deployment(network, 1, SIDE, 1))


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(
    ("ms", "chosen"),
    [
        ({"torch": 3.0, "onnxruntime": 2.0, "openvino": 1.0}, "openvino"),
        ({"torch": 3.0, "onnxruntime": 2.0, "openvino": 9.0}, "onnxruntime"),
        ({"torch": 1.0, "onnxruntime": 2.0, "openvino": 9.0}, "torch"),
    ],
)
def test_auto_takes_the_fastest_and_says_the_times(
    fused: FusedNetwork, ms: dict[RuntimeName, float], chosen: str
) -> None:
    def times(networks: Mapping[RuntimeName, nn.Module], images: Tensor) -> dict[RuntimeName, float]:
        assert images.shape == (4, 1, SIDE, SIDE)
        return {name: ms[name] for name in networks}

    network, reason = run_by("auto", fused, 1, SIDE, 2, 4, times)
    assert runtime_of(network)["runtime"] == chosen
    display = RUNTIMES[chosen].display  # type: ignore[index]
    assert reason.startswith(f"{display} {torch.__version__.partition('+')[0]}")
    assert f"the fastest here: {min(ms.values())} ms for 4 tiles of {SIDE} px in 2 threads" in reason
    assert all(f"{value} ms" in reason for value in ms.values())


@pytest.mark.usefixtures("pretended")
def test_auto_leaves_out_what_cannot_compute_the_network(fused: FusedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(deployment: Deployment) -> nn.Module:
        raise ValueError("operator of the user's")

    changed = {name: replace(runtimes.RUNTIMES[name], open=broken) for name in ("onnxruntime", "openvino")}
    monkeypatch.setattr(runtimes, "RUNTIMES", {**runtimes.RUNTIMES, **changed})
    network, reason = run_by("auto", fused, 1, SIDE, 1, 1)
    assert network is fused
    assert "the only one; onnxruntime left out: ValueError: operator of the user's; OpenVINO left out" in reason


@pytest.mark.usefixtures("pretended", "hasty")
def test_real_timings_are_of_all_runtimes(fused: FusedNetwork) -> None:
    networks = {name: open_runtime(name, Deployment(fused, 1, SIDE, 1)) for name in runtimes.AUTOMATIC}
    times = runtimes.time_each(networks, torch.rand(1, 1, SIDE, SIDE))
    assert times.keys() == set(runtimes.AUTOMATIC)
    assert min(times.values()) > 0


@pytest.mark.usefixtures("pretended")
def test_every_member_of_an_ensemble_is_run(fused: FusedNetwork) -> None:
    other = ready(build(registry.models()["contextnet"]), (1, 1, SIDE, SIDE))
    ensemble, images = Ensemble([fused, other]), torch.rand(1, 1, SIDE, SIDE)
    network, _ = run_by("openvino", ensemble, 1, SIDE, 1, 1)
    assert [type(member) for member in network.members] == [RuntimeNetwork] * 2
    with torch.inference_mode():
        torch.testing.assert_close(probabilities_of(network, images), probabilities_of(ensemble, images))


def test_on_a_gpu_only_torch_is_used(fused: FusedNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deployment, "device", property(lambda _: torch.device("meta")))
    with pytest.raises(RefusedRuntimeError, match=r"used on a CPU only|not installed"):
        open_runtime("openvino", Deployment(fused, 1, SIDE, 1))


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_verb_predicts_the_same_masks_by_another_runtime_and_notes_it(
    predict: Predict, frame: np.ndarray, tmp_path: Path, name: RuntimeName
) -> None:
    installed(name)
    save(tmp_path / "a.png", frame)
    flags = ("--no-overlay", "--threads", "1", "a.png")
    code, out, err = predict("--runtime", name, *flags)
    assert (code, err) == (0, "")
    assert f"--runtime {name}: {RUNTIMES[name].display} {RUNTIMES[name].version}" in out
    facts = json.loads(Path("out/manifest/a.json").read_text())
    assert (facts["runtime"], facts["runtime_version"]) == (name, RUNTIMES[name].version)
    by_runtime = contents(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / "other")
    assert predict(*flags)[0] == 0
    by_torch = contents(tmp_path / "out")
    assert json.loads(by_torch["manifest/a.json"])["runtime"] == "torch"
    assert {file for file in by_torch if by_torch[file] != by_runtime[file]} == {"manifest/a.json"}


@pytest.mark.usefixtures("pretended")
@pytest.mark.parametrize(("width", "counts"), [(32, (1,)), (56, (2, 1)), (2000, (3, 1))])
def test_verb_opens_programs_for_its_stacks(
    predict: Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: int, counts: tuple[int, ...]
) -> None:
    opened: list[tuple[int, ...]] = []

    def open_(deployment: Deployment) -> nn.Module:
        opened.append(deployment.counts)
        return RuntimeNetwork("openvino", dict.fromkeys(deployment.counts, of_module(deployment.network)))

    monkeypatch.setitem(runtimes.RUNTIMES, "openvino", replace(runtimes.RUNTIMES["openvino"], open=open_))  # type: ignore[arg-type]
    save(tmp_path / "a.png", np.zeros((32, width), np.uint8))
    assert predict("a.png", "--runtime", "openvino", "--tile", "32", "--overlap", "8", "--batch", "3")[0] == 0
    assert opened == [counts]


@pytest.mark.usefixtures("hasty")
def test_verb_chooses_by_itself(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    installed("onnxruntime")
    save(tmp_path / "a.png", frame)
    code, out, err = predict("a.png", "--runtime", "auto", "--threads", "1")
    assert (code, err) == (0, "")
    assert "--runtime auto: " in out
    assert "the fastest here: " in out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--runtime", "openvino", "--dtype", "bfloat16"), "--runtime openvino: computes in float32, not in bfloat16"),
        (("--runtime", "auto", "--overlap-study"), "--runtime: --overlap-study tries overlaps"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    predict: Predict, frame: np.ndarray, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    save(tmp_path / "a.png", frame)
    code, _, err = predict("a.png", *flags)
    assert code == 2
    assert message in err
