from __future__ import annotations

import sys
from types import SimpleNamespace

import psutil
import pytest
import torch

from benchmark.efficiency.conditions import describe_changes, energy_joules, read_conditions
from benchmark.records.efficiency_record import Conditions

CPU = torch.device("cpu")
CALM = Conditions(clock_mhz=2000.0, load_average=0.0)


def test_clock_and_load_are_read_where_the_system_tells_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: SimpleNamespace(current=1234.0))
    monkeypatch.setattr("os.getloadavg", lambda: (0.25, 0.5, 0.75), raising=False)
    assert read_conditions(CPU) == Conditions(clock_mhz=1234.0, load_average=0.25)


def hidden() -> None:
    raise FileNotFoundError("/sys/devices/system/cpu/cpu0/cpufreq")


@pytest.mark.parametrize("answer", [lambda: None, lambda: SimpleNamespace(current=0.0), hidden])
def test_clock_that_is_hidden_is_none(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", answer)
    assert read_conditions(CPU).clock_mhz is None


def test_steady_measurement_gives_no_warning() -> None:
    assert describe_changes(CALM, Conditions(clock_mhz=1900.0, load_average=0.1), [1.0, 1.05] * 20, threads=2) == []


def test_moving_clocks_are_told() -> None:
    slow = Conditions(clock_mhz=1500.0, load_average=0.0)
    assert describe_changes(CALM, slow, [1.0] * 9, threads=1) == [
        "clocks moved from 2000 to 1500 MHz while latency was measured"
    ]


def test_rising_load_is_told_beyond_what_the_measurement_causes() -> None:
    busy = Conditions(clock_mhz=2000.0, load_average=2.5)
    minute = [1000.0] * 60
    assert describe_changes(CALM, busy, minute, threads=2) == []
    assert describe_changes(CALM, busy, minute[:1], threads=2) == [
        "load average rose from 0.0 to 2.5 while latency was measured"
    ]


def test_busy_machine_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    busy = Conditions(clock_mhz=None, load_average=6.0)
    assert describe_changes(busy, busy, [1.0] * 9, threads=2) == [
        "the machine was busy before latency was measured (load average 6.0)"
    ]


def test_drifting_latency_is_told() -> None:
    result = describe_changes(CALM, CALM, [1.0] * 10 + [1.5] * 10, threads=1)
    assert result == ["latency drifted from 1.00 to 1.50 ms between the first and the second half"]


def fake_nvml(millijoules: int, known: str) -> SimpleNamespace:
    class NVMLError(Exception):
        pass

    def handle(uuid: str) -> str:
        if uuid != known:
            raise NVMLError(uuid)
        return "handle"

    return SimpleNamespace(
        NVMLError=NVMLError,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID=handle,
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: millijoules,
    )


def test_energy_is_read_from_the_gpu_that_torch_means(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2500, known="GPU-12-34"))
    assert energy_joules(torch.device("cuda:0")) == 2.5
    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(2500, known="GPU-other"))
    assert energy_joules(torch.device("cuda:0")) is None


def test_clock_that_the_driver_refuses_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    library = fake_nvml(2500, known="GPU-12-34")

    def clock(handle: str, kind: int) -> int:
        if refused:
            raise library.NVMLError("Not Supported")
        return 1500

    library.NVML_CLOCK_SM, library.nvmlDeviceGetClockInfo, refused = 1, clock, False
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="12-34"))
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert read_conditions(torch.device("cuda:0")).clock_mhz == 1500
    refused = True
    assert read_conditions(torch.device("cuda:0")).clock_mhz is None


def test_energy_is_empty_without_nvml_and_on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert energy_joules(torch.device("cuda:0")) is None
    assert energy_joules(CPU) is None
