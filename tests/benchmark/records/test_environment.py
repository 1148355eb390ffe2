"""Tests the facts of a record about code, packages and hardware."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

import benchmark
from benchmark.records import environment


def test_environment_names_code_system_and_libraries() -> None:
    result = environment.describe("cpu", 3)
    assert result["code"].keys() == {"version", "commit", "dirty", "content"}
    assert result["code"]["version"] == benchmark.__version__
    assert result["python"] == sys.version.split()[0]
    assert result["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert (result["device"], result["threads"]) == ("cpu", 3)
    assert not any(key.startswith(("gpu", "cuda", "driver")) for key in result)


def test_variables_that_choose_kernels_are_kept_and_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in environment.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SOME_TOKEN", "secret")
    assert environment.describe("cpu", 1)["variables"] == {"OMP_NUM_THREADS": "7"}


def test_variables_of_the_gpu_s_allocator_and_launches_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", "CUDA_LAUNCH_BLOCKING": "1"}
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    assert given.items() <= environment.describe("cpu", 1)["variables"].items()


def test_threads_are_those_that_torch_has_in_this_process() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        result = environment.computing("cpu")
    finally:
        torch.set_num_threads(before)
    assert result["torch_threads"] == 3
    assert result["torch_interop_threads"] == torch.get_num_interop_threads()
    assert result["cpu_capability"] == torch.backends.cpu.get_cpu_capability()
    assert "float32_precision" not in result
    assert "matmul" in environment.computing("cuda:0")["float32_precision"]


def test_gpu_s_facts_come_from_torch_and_the_management_library(monkeypatch: pytest.MonkeyPatch) -> None:
    class NVMLError(Exception):
        pass

    def refused(handle: str) -> int:
        raise NVMLError

    library = SimpleNamespace(
        NVMLError=NVMLError, NVML_CLOCK_SM=1, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda uuid: uuid,
        nvmlDeviceGetMaxClockInfo=lambda gpu, kind: {("GPU-12", 1): 1980}[gpu, kind],
        nvmlDeviceGetEnforcedPowerLimit=refused,
    )  # fmt: skip
    properties = SimpleNamespace(total_memory=8 << 30, major=9, minor=0, uuid="12")
    monkeypatch.setitem(sys.modules, "pynvml", library)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100")
    result = environment.describe("cuda:0", 1)
    assert (result["gpu"], result["gpu_capability"], result["gpu_clock_max_mhz"]) == ("NVIDIA H100", "9.0", 1980)
    assert result["gpu_power_limit_w"] is None  # one question that is refused leaves the others their answers
    assert result["gpu_memory_bytes"] == 8 << 30
    assert {"cuda", "cudnn", "driver", "hip"} <= result.keys()
    library.nvmlDeviceGetEnforcedPowerLimit = lambda gpu: 700_000  # milliwatts
    assert environment.describe("cuda:0", 1)["gpu_power_limit_w"] == 700
