"""``--weights FILE`` from end to end: a network without a study, in three verbs, and the files that are refused."""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import benchmark
from benchmark.config import registry
from benchmark.predict.export import export_network
from benchmark.records.chosen_networks import network_of_file
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.records.export_record import ExportRecord
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import Call
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import TINYNET, brightness, pixels_of
from tests.benchmark.test_safety import Payload

OWN = """
from torch import nn
class Rgb(nn.Module):
    def __init__(self, in_channels=3, classes=1):
        super().__init__()
        if in_channels != 3:
            raise ValueError("RGB only")
        self.layer = nn.Conv2d(3, classes, 1)
class Broken(nn.Module):
    def __init__(self, in_channels=3, classes=1):
        raise RuntimeError("no")
"""
State = dict[str, Tensor]
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # torch calls them a prototype
    NESTED = torch.nested.nested_tensor([torch.ones(1), torch.ones(2)])


def weights(in_channels: int = 1, prefix: str = "") -> State:
    return {f"{prefix}{name}": value for name, value in brightness(in_channels).state_dict().items()}


def without(state: State, *names: str) -> State:
    return {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
@pytest.mark.parametrize("write", [torch.save, save_file])
def test_file_of_either_format_and_from_any_wrapper_gives_the_network(
    tmp_path: Path, write: Callable[[State, Path], None], prefix: str
) -> None:
    file = tmp_path / ("lab.pt" if write is torch.save else "lab.safetensors")
    write(weights(3, prefix), file)
    found = network_of_file(file, TINYNET)
    assert (found.label, found.channels, found.input_size, found.train) == ("tinynet/lab", 3, 512, ())
    result = found.build().state_dict()
    assert all(torch.equal(result.pop(name), value) for name, value in weights(3).items())
    assert not result


def test_masks_of_the_command_and_of_python(call: Call, frame: np.ndarray, tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "lab.pt")
    save(tmp_path / "a.png", frame)
    code, out, err = call(*_predict("--tile", "32"), "--weights", "lab.pt")
    assert (code, err) == (0, "")
    assert "tinynet/lab: 1 image, tiles of 32 px" in out
    np.testing.assert_array_equal(pixels_of("out/mask/a.png") > 0, frame >= 128)
    network = benchmark.network(TINYNET, "lab.pt", size=32, device="cpu")
    np.testing.assert_array_equal(network.predict(frame), frame >= 128)


@pytest.mark.parametrize("size", [0, -16])
def test_impossible_size_is_refused(tmp_path: Path, size: int) -> None:
    torch.save(weights(), tmp_path / "lab.pt")
    with pytest.raises(UserError, match=rf"--trained-at {size}: expected the side of the training's inputs, pixels"):
        benchmark.network(TINYNET, tmp_path / "lab.pt", size=size, device="cpu")


@pytest.mark.usefixtures("blank_figures")
def test_stages_and_an_export_lie_beside_the_file(
    call: Call, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_network, "TIMING", EfficiencySettings(warm_up=0, min_iterations=3, min_seconds=0))
    (tmp_path / "lab").mkdir()
    save_file(weights(), tmp_path / "lab/best.safetensors")
    save(tmp_path / "a.png", frame)
    given = ("--models", TINYNET, "--weights", "lab/best.safetensors")
    code, out, err = call("stages", *given, "--image", "a.png")
    assert (code, err) == (0, "")
    assert "tinynet/best" in out
    assert Path("lab/stages/best.a.principal.png").is_file()
    code, _, err = call("export", *given, "--trained-at", "32", "--format", "torch", "--threads", "1")
    assert (code, err) == (0, "")
    record = ExportRecord.from_json(Path("lab/export/tinynet.best.pt2.json").read_bytes())
    known = {name: record.metadata[name] for name in ("study", "training_set", "trained_at", "training_images")}
    assert known == {"study": "", "training_set": "", "trained_at": "32x32", "training_images": "not known"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (without(weights(), "head.bias"), "lab.pt: does not fit the network: head.bias is 1 here and none there; exp"),
        (weights() | {"aux.bias": torch.zeros(2)}, "does not fit the network: aux.bias is none here and 2 there; exp"),
        (without(weights(prefix="module."), "module.head.bias"), "network: head.bias is 1 here and none there; exp"),
        (weights(2), "features.weight is 4x1x3x3 here and 4x2x3x3 there"),
        ({"epoch": 3, "model": weights()}, "lab.pt: no state_dict (found epoch, model); expected tensors by name"),
        ([1.0], "lab.pt: no state_dict (found list)"),
        ({}, "features.weight is 4x1x3x3 here and none there"),
        (weights() | {"head.bias": torch.tensor([torch.nan])}, "NaN or infinite values in head.bias"),
        (weights() | {"head.bias": NESTED}, "lab.pt: head.bias is nested or sparse (torch.strided); expected dense"),
        (brightness(), "lab.pt: no file of tensors alone (UnpicklingError), and nothing else is read; expected a file"),
    ],
)
def test_file_that_is_not_the_network_s_is_one_message(call: Call, tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "lab.pt")
    code, _, err = call(*_predict(), "--weights", "lab.pt")
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err


def test_network_for_one_number_of_channels_and_one_that_takes_none(call: Call, tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(OWN)
    state = {"layer.weight": torch.zeros(1, 3, 1, 1), "layer.bias": torch.zeros(1)}
    torch.save(state, tmp_path / "rgb.pt")
    assert network_of_file(tmp_path / "rgb.pt", f"{tmp_path / 'net.py'}:Rgb").channels == 3
    code, _, err = call("predict", "a.png", "--models", "net.py:Broken", "--weights", "rgb.pt", "--out", "out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert "net.py:Broken: __init__ with in_channels=1 raised RuntimeError: no (net.py:" in err


@pytest.mark.parametrize("name", ["lab.pkl", "lab.pt", "lab.safetensors"])
@pytest.mark.parametrize("by_torch", [True, False])
def test_pickle_runs_nothing(call: Call, tmp_path: Path, name: str, by_torch: bool) -> None:
    payload = {"head.bias": Payload(tmp_path / "ran")}
    torch.save(payload, name) if by_torch else Path(name).write_bytes(pickle.dumps(payload))
    for verb in (_predict(), ("export", "--models", TINYNET, "--format", "torch"), _predict("--overlap-study")):
        code, _, err = call(*verb, "--weights", name)
        assert (code, len(err.splitlines())) == (2, 1)
        assert f"{name}: no " in err
    assert not os.path.exists("ran")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "--study or --weights: expected the study of a training, or a file of weights"),
        (("--weights", "no.pt"), "--weights no.pt: no such file"),
        (("--weights", "lab.pt", "--study", "quick"), "--study: belongs to a study, not to --weights lab.pt"),
        (("--weights", "lab.pt", "--datasets", "omc", "--repeat", "0"), "--datasets, --repeat: belongs to a study"),
        (("--weights", "lab.pt", "--repeats", "all"), "--repeats: belongs to a study, not to --weights lab.pt"),
        (("--weights", "lab.pt", "--weights", "lab.pt"), "--weights lab.pt, lab.pt: 2 files; expected one"),
        (
            ("--weights", "lab.pt", "--models", "unet,fcn"),
            "--models unet,fcn: 2 networks (fcn, unet); expected the one",
        ),
        (("--study", "quick", "--trained-at", "64"), "--trained-at 64: for --weights only"),
        (
            ("--weights", "esnet.pt", "--models", "esnet", "--trained-at", "36"),
            "esnet takes sizes that are multiples of 8",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_named(
    call: Call, tmp_path: Path, flags: tuple[str, ...], message: str
) -> None:
    torch.save(weights(), tmp_path / "lab.pt")
    if "esnet.pt" in flags:
        torch.save(registry.select("esnet")[0].build().state_dict(), tmp_path / "esnet.pt")
    code, _, err = call(*_predict(), *flags)
    assert (code, len(err.splitlines())) == (2, 1)
    assert message in err


def _predict(*more: str) -> tuple[str, ...]:
    return ("predict", "a.png", "--models", TINYNET, "--device", "cpu", "--out", "out", *more)
