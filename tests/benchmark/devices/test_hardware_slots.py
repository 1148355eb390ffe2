"""Devices that flags name: what is found, and why a GPU that seems to be there is not used."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmark.devices import facts, hardware_slots
from benchmark.devices.hardware_slots import Hardware, MissingDeviceError, hardware_of

Machine = Callable[..., None]


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    """A machine with files that tell of a GPU, none of which torch sees."""

    def make(*files: str, driver: str | None = None, cuda: str | None = None, hip: str | None = None) -> None:
        for name in hardware_slots.NO_GPUS:
            monkeypatch.delenv(name, raising=False)
        for name in ("DRIVER", "WSL", "WSL_DRIVER", "AMD"):
            file = tmp_path / name
            monkeypatch.setattr(hardware_slots, name, file)
            if name in files:
                file.touch()
        monkeypatch.setenv("PATH", "")
        monkeypatch.setattr(facts, "driver_version", lambda: driver)
        monkeypatch.setattr(torch.version, "cuda", cuda)
        monkeypatch.setattr(torch.version, "hip", hip)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    return make


@pytest.mark.parametrize(
    ("files", "versions", "told"),
    [
        (
            ["DRIVER"],
            {"driver": "535.104.05", "cuda": "13.0"},
            r"NVIDIA's driver is loaded \(version 535\.104\.05\), torch .* is built for CUDA 13\.0, "
            r"which needs driver 580 or newer: update it, or install torch built for an older CUDA",
        ),
        (
            ["DRIVER"],
            {"driver": "535.104.05"},
            r"version 535\.104\.05.* is built for CPUs only: install torch built for CUDA",
        ),
        (["DRIVER"], {"driver": "535.104.05", "cuda": "12.6"}, r"the driver is new enough, so look at"),
        (["WSL", "WSL_DRIVER"], {"cuda": "13.0"}, r"WSL passes a GPU of NVIDIA through.*needs driver 580 or newer"),
        (["AMD"], {"cuda": "13.0"}, r"AMD's driver is loaded.*install torch built for ROCm"),
        (["AMD"], {"hip": "6.4"}, r"built for ROCm 6\.4: the user may not open"),
    ],
)
def test_gpu_that_torch_does_not_see_is_told_with_what_to_install(
    machine: Machine, capsys: pytest.CaptureFixture[str], files: list[str], versions: dict[str, str], told: str
) -> None:
    machine(*files, **versions)
    assert hardware_of("auto", 3) == Hardware("cpu", 3)
    said = capsys.readouterr().err
    assert said.startswith("benchmark: computing on the CPU, since ")
    with pytest.raises(MissingDeviceError, match=rf"^--device 'cuda': torch sees 0 .*{told}.*; use --device cpu$"):
        hardware_of("cuda", 3)
    assert said.removeprefix("benchmark: computing on the CPU, since ").strip() in str(_refusal())


def _refusal() -> MissingDeviceError:
    with pytest.raises(MissingDeviceError) as raised:
        hardware_of("cuda", 3)
    return raised.value


def test_machine_without_a_gpu_takes_the_cpu_without_a_word(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("WSL", cuda="13.0")  # Windows without NVIDIA's driver
    assert hardware_of("auto", 3) == Hardware("cpu", 3)
    assert capsys.readouterr().err == ""
    assert "no driver of a GPU is found" in str(_refusal())


def test_warnings_of_torch_are_quoted(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def warns() -> bool:
        import warnings

        warnings.warn("CUDA initialization: system not yet initialized (error 802)\nmore", stacklevel=1)
        return False

    machine("DRIVER", driver="590.1", cuda="13.0")
    monkeypatch.setattr(torch.cuda, "is_available", warns)
    assert "says: CUDA initialization: system not yet initialized (error 802):" in str(_refusal())


def test_variable_that_hides_all_gpus_is_named(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("DRIVER", driver="590.1", cuda="13.0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert "CUDA_VISIBLE_DEVICES=-1 hides all" in str(_refusal())


@pytest.mark.parametrize(
    ("hardware", "workers", "input_size", "slots"),
    [
        (Hardware("cpu", 2), None, 96, (None, None)),
        (Hardware("cpu", 2), None, 512, (None,)),
        (Hardware("cpu", 2), 3, 512, (None, None, None)),
        (Hardware("cuda:0", 16, gpus=("cuda:0", "cuda:1")), None, 96, ("cuda:0", "cuda:1") * 2),
        (Hardware("cuda:0", 4, gpus=("cuda:0",), remote=True), None, 96, ("cuda:0",)),
    ],
)
def test_slots_follow_workers_on_a_cpu_and_per_gpu_on_gpus(
    hardware: Hardware, workers: int | None, input_size: int, slots: tuple[str | None, ...]
) -> None:
    assert hardware.with_slots(workers=workers, per_gpu=2, input_size=input_size).slots == slots
