from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from pydantic import ValidationError

from benchmark.config import registry
from benchmark.config.registry import ModelEntry
from benchmark.devices.facts import cpu_name
from benchmark.efficiency import limits, measure
from benchmark.efficiency.hindrance import TRIES, hindrances
from benchmark.efficiency.latency import UnsupportedFormError
from benchmark.records import claims
from benchmark.records.efficiency_record import DType, EfficiencyRecord, EfficiencySettings, Form, Limits
from benchmark.runs.failures import classify
from benchmark.utils.errors import UserError
from tests.benchmark.fake_graphs import Tape, tapes

__all__ = ["tapes"]  # a fixture

SHORT = EfficiencySettings(
    warm_up=1, min_iterations=3, min_seconds=0, throughput_batches=(1, 2), throughput_seconds=0.1
)

NETWORK = """
import torch
from torch import nn

class Toy(nn.Module):
    def __init__(self, in_channels=1, classes=1):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_channels, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, classes, 1))
        self.never = nn.Linear(3, 5)

    def forward(self, x):
        return self.layers(x)

class Inverting(Toy):
    def forward(self, x):
        return torch.linalg.inv(self.layers(x))

class Weighting(Toy):  # fvcore's rule fails for a product with a vector
    def forward(self, x):
        logits = self.layers(x)
        return logits * (logits @ logits[0, 0, 0]).unsqueeze(-1)
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "toy.py"
    path.write_text(NETWORK, "utf-8")
    return path


def entry(file: Path, name: str = "Toy") -> ModelEntry:
    (entry,) = registry.select(f"{file}:{name}")
    return entry


def test_user_s_network_has_every_figure(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "COPIED_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "LONG_MS", 1.0)
    record = measure.measure(entry(file), 16, 24, in_channels=3, classes=2, threads=1, settings=SHORT)
    assert (record.model, record.height, record.width, record.in_channels, record.classes) == ("toy", 16, 24, 3, 2)
    assert record.params == (3 * 4 * 9 + 4) + (4 * 2 + 2)
    assert record.unused_params == {"never.weight": 15, "never.bias": 5}
    assert record.macs == 16 * 24 * (3 * 4 * 9 + 4 * 2)
    assert record.macs_by_operator == {"conv": record.macs}
    assert record.flops == 2 * record.macs
    # Image, weights and bias in, map out, of both convolutions; the activation between them reads and writes its map.
    image, inner, out = 3 * 16 * 24, 4 * 16 * 24, 2 * 16 * 24
    assert record.bytes_moved == 4 * ((image + 3 * 4 * 9 + 4 + inner) + 2 * inner + (inner + 4 * 2 + 2 + out))
    assert record.limits is not None
    assert len(record.latency.raw_ms) == 3
    assert record.latency.fps == 1000 / record.latency.p50_ms
    assert record.throughput is not None
    tried = [row.batch for row in record.throughput.tried]
    assert tried == [1, 2] or (tried == [1] and record.throughput.stopped)  # no time left for 2 beside other work
    assert record.memory is not None
    assert record.memory.forward_peak_bytes is not None
    assert record.memory.train_step_peak_bytes is not None
    assert (record.device, record.device_name, record.dtype, record.threads) == ("cpu", cpu_name(), "float32", 1)
    assert record.torch == torch.__version__
    assert record.settings == SHORT
    assert record.energy_j_per_image is None


def quick(file: Path, name: str = "Toy", side: int = 16, **arguments: object) -> EfficiencyRecord:
    """Measure neither memory nor throughput nor the device's rates, and do not judge other work on the machine."""
    settings = SHORT.model_copy(update={"memory": False, "throughput_seconds": 0.0})
    usual = {"settings": settings, "rates": lambda *where: of_rate(1e11), "judge": lambda waited, *limits: ()}
    return measure.measure(entry(file, name), side, side, **{**usual, **arguments})  # type: ignore[arg-type]


def test_forwards_are_timed_with_freed_memory_kept_and_the_record_says_so(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeping: list[bool] = []
    timed: list[bool] = []

    @contextlib.contextmanager
    def context() -> Iterator[bool]:
        keeping.append(True)
        yield True
        keeping.pop()

    for name in ("measure_latency", "measure_throughput"):
        original = getattr(measure, name)

        def spy(*arguments: object, original: Callable[..., object] = original) -> object:
            timed.append(bool(keeping))
            return original(*arguments)

        monkeypatch.setattr(measure, name, spy)
    monkeypatch.setattr(measure, "keeping_freed_memory", context)
    record = quick(file)
    assert timed == [True, True]
    assert not keeping
    assert record.freed_memory == "kept"
    without = record.to_json().replace(b' "freed_memory": "kept",\n', b"")
    assert EfficiencyRecord.from_json(without) == record.model_copy(update={"freed_memory": None})
    monkeypatch.setattr(measure, "keeping_freed_memory", lambda: contextlib.nullcontext(False))
    assert quick(file).freed_memory is None


def by_rates_alone(waited: float | None, *limits: object) -> tuple[str, ...]:
    """Judge without the load of the machine that runs the tests."""
    return hindrances(None, *limits)  # type: ignore[arg-type]


def of_rate(macs_per_second: float) -> Limits:
    return Limits(macs_per_second=macs_per_second, bytes_per_second=2e10, product_side=512, copied_bytes=1 << 28)


def test_measurement_that_something_hindered_is_taken_again(file: Path) -> None:
    taken = iter(map(of_rate, (1e9, 1e11, 0.9e11, 1e11)))
    record = quick(file, rates=lambda *where: next(taken), judge=by_rates_alone)
    assert (record.tries, record.hindered) == (2, ())
    assert (record.limits, record.limits_after) == (of_rate(0.9e11), of_rate(1e11))
    assert list(taken) == []


@pytest.mark.parametrize(("budget", "tries"), [(None, TRIES), (60.0, 1)])
def test_measurement_that_stays_hindered_says_so(file: Path, budget: float | None, tries: int) -> None:
    taken = iter(map(of_rate, (1e9, 1e11) * tries))
    settings = SHORT.model_copy(update={"memory": False, "throughput_seconds": 0.0, "budget_seconds": budget})
    record = quick(file, rates=lambda *where: next(taken), judge=by_rates_alone, settings=settings)
    assert record.tries == tries
    assert record.hindered == ("a matrix product just before ran at 1% of the best rate known",)
    assert list(taken) == []


def test_earlier_figures_of_the_machine_tell_what_it_reaches(file: Path) -> None:
    earlier = quick(file, rates=lambda *where: of_rate(1e12), judge=by_rates_alone)
    other = earlier.model_copy(update={"threads": earlier.threads + 1})
    for known, hindered in (([earlier], True), ([other], False)):
        record = quick(file, rates=lambda *where: of_rate(1e11), judge=by_rates_alone, known=known)
        assert bool(record.hindered) == hindered


def test_figures_say_on_which_machine_with_which_kernels_and_when_they_were_measured(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", "avx2")
    origin = quick(file).origin
    assert origin is not None
    assert origin.machine == claims.machine()
    assert origin.variables["ATEN_CPU_CAPABILITY"] == "avx2"
    assert origin.measured.endswith("+00:00")
    assert origin.taken_from is None


def test_record_survives_the_disk_and_refuses_unknown_fields(file: Path) -> None:
    record = quick(file)
    assert (record.memory, record.throughput) == (None, None)
    content = record.to_json()
    assert EfficiencyRecord.from_json(content) == record
    assert b'"schema": 1' in content
    with pytest.raises(ValidationError, match="Extra inputs"):
        EfficiencyRecord.from_json(content.replace(b'"model"', b'"host": "a", "model"'))


def test_records_of_before_energy_at_the_best_batch_was_measured_are_read(file: Path) -> None:
    settings = SHORT.model_copy(update={"memory": False})
    content = quick(file, settings=settings).to_json()
    earlier = content.replace(b',\n  "energy_j_per_image": null\n }', b"\n }")
    assert earlier != content
    record = EfficiencyRecord.from_json(earlier)
    assert record.throughput is not None
    assert record.throughput.energy_j_per_image is None


def test_record_names_no_path(file: Path) -> None:
    assert str(file.parent).encode() not in quick(file).to_json()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_other_number_formats(file: Path, dtype: str) -> None:
    assert quick(file, dtype=dtype).dtype == dtype


@pytest.mark.parametrize(("native", "expected"), [(True, 0), (False, 1)])
def test_emulated_bfloat16_is_reported(
    file: Path, monkeypatch: pytest.MonkeyPatch, native: bool, expected: int
) -> None:
    monkeypatch.setattr("benchmark.devices.facts.cpu_has_bfloat16", lambda: native)
    warnings = quick(file, dtype="bfloat16").warnings + quick(file, dtype="float32").warnings
    assert sum("emulated" in warning for warning in warnings) == expected


def test_channels_last(file: Path) -> None:
    settings = SHORT.model_copy(update={"memory": False, "memory_format": "channels_last"})
    assert quick(file, settings=settings).settings.memory_format == "channels_last"


@pytest.mark.parametrize(
    ("form", "layout", "mode", "graph"),
    [
        ("eager", "contiguous", None, False),
        ("graph", "channels_last", None, True),
        ("compile", "channels_last", "default", False),
    ],
)
def test_settings_say_their_form(form: Form, layout: str, mode: str | None, graph: bool) -> None:
    settings = EfficiencySettings.for_device("cuda:1", form)
    assert (settings.memory_format, settings.compile_mode, settings.cuda_graph) == (layout, mode, graph)
    assert settings.form == form
    assert settings.min_seconds == 10.0


def test_graph_is_captured_once_and_replayed_for_every_timing(file: Path, tapes: list[Tape]) -> None:
    settings = SHORT.model_copy(update={"cuda_graph": True, "memory_format": "channels_last"})
    record = quick(file, threads=1, settings=settings)
    assert record.settings.form == "graph"
    assert record.memory is None  # what an eager forward takes is another figure
    assert record.throughput is not None
    latency, *others = tapes
    # The first replay ends the preparation.
    assert latency.replays == 1 + settings.warm_up + len(record.latency.raw_ms)
    assert len(others) == len(record.throughput.tried)


def test_unsupported_form_is_reported(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiler(*arguments: object, **settings: object) -> Callable[..., object]:
        def compiled(*inputs: object) -> object:
            raise RuntimeError("backend='inductor' raised:\nno C++ compiler\n\nSet X=1 for more")

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    settings = EfficiencySettings.for_device("cpu", "compile").model_copy(update={"memory": False})
    with pytest.raises(UnsupportedFormError) as caught:
        quick(file, settings=settings)
    assert str(caught.value) == "compile: RuntimeError: backend='inductor' raised: no C++ compiler"
    assert classify(caught.value) == "unsupported"


def test_random_state_and_threads_stay_as_they_were(file: Path) -> None:
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    assert quick(file, threads=threads + 1).threads == threads + 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_failed_memory_measurement_is_a_warning(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> int:
        raise MemoryError("none left")

    monkeypatch.setattr("benchmark.efficiency.memory.in_fresh_process", refused)
    record = quick(file, settings=SHORT)
    assert record.memory is not None
    assert record.memory.forward_peak_bytes is None
    assert record.warnings[0] == "no peak memory of the forward: MemoryError: none left"


def test_figures_of_an_earlier_release_load(file: Path) -> None:
    old = json.loads(quick(file).to_json())
    for name in ("bytes_moved", "limits"):
        del old[name]
    del old["settings"]["budget_seconds"], old["latency"]["warm_ups"]
    record = EfficiencyRecord.from_json(json.dumps(old).encode())
    assert (record.bytes_moved, record.limits, record.settings.budget_seconds) == (None, None, None)


def test_half_precision_moves_half_the_bytes(file: Path) -> None:
    full, half = (quick(file, dtype=dtype).bytes_moved for dtype in ("float32", "bfloat16"))
    assert full is not None
    assert half == full / 2


def test_device_whose_limits_cannot_be_taken_still_has_figures(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*arguments: object) -> Limits:
        raise RuntimeError("\"addmm_impl_cpu_\" not implemented for 'Half'\nmore")

    record = quick(file, rates=refused)
    assert record.limits is None
    assert record.warnings[0] == (
        "no limits of the device: RuntimeError: \"addmm_impl_cpu_\" not implemented for 'Half'"
    )


def test_budget_that_cuts_something_short_says_what(file: Path) -> None:
    settings = EfficiencySettings(budget_seconds=1e-6, memory=False)
    record = quick(file, settings=settings)
    assert (record.latency.warm_ups, len(record.latency.raw_ms), record.throughput) == (1, 3, None)
    assert record.warnings[0] == (
        "cut short by the budget of 1e-06 s: 1 warm-up, latency from n = 3 timings, no throughput"
    )


def test_budget_with_room_for_everything_changes_nothing(file: Path) -> None:
    settings = SHORT.model_copy(update={"memory": False, "budget_seconds": 600.0})
    record = quick(file, settings=settings)
    assert record.throughput is not None
    assert not [warning for warning in record.warnings if "budget" in warning]


def test_training_step_that_would_fill_the_memory_is_not_tried(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free, measured = SimpleNamespace(available=100_000), iter([7])
    monkeypatch.setattr("benchmark.devices.process_memory.psutil.virtual_memory", lambda: free)
    monkeypatch.setattr("benchmark.efficiency.memory.in_fresh_process", lambda *arguments: next(measured))
    record = quick(file, side=64, settings=SHORT)
    assert record.memory is not None
    assert (record.memory.forward_peak_bytes, record.memory.train_step_peak_bytes) == (7, None)
    # Two maps of four channels and one of logits are written, 147 kB; half of what is free is 50 kB.
    assert record.warnings[0] == (
        "no peak memory of the train step: it would take about 0.0 GiB, more than half of the free memory"
    )


def test_operator_without_a_count_is_a_note(file: Path) -> None:
    record = quick(file, "Inverting")
    assert "torch counts no MACs for linalg_inv_ex: they are left out" in record.warnings
    assert record.macs_by_operator == {"conv": 16 * 16 * (4 * 9 + 4)}


def test_exception_of_fvcore_stops_no_measurement(file: Path) -> None:
    record = quick(file, "Weighting")
    assert any(note.startswith("fvcore has not checked the MACs: IndexError") for note in record.warnings)
    assert record.macs_by_operator == {"conv": 16 * 16 * (4 * 9 + 4), "matmul": 16 * 16}


def test_size_that_a_network_cannot_take_is_refused() -> None:
    with pytest.raises(UserError, match=r"'hrnet' takes heights and widths that are multiples of 32, found 96x100"):
        measure.measure(registry.models()["hrnet"], 96, 100)


def test_missing_gpu_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="torch sees no CUDA device"):
        quick(file, device="cuda:0")


def test_defaults_measure_longer_on_a_gpu() -> None:
    cpu, gpu = EfficiencySettings.for_device("cpu"), EfficiencySettings.for_device("cuda:1")
    assert (cpu.warm_up, cpu.min_iterations, cpu.min_seconds) == (10, 30, 3.0)
    assert (gpu.warm_up, gpu.min_iterations, gpu.min_seconds) == (10, 30, 10.0)


def test_records_are_read_without_torch() -> None:
    code = (
        "import sys; from benchmark.records.efficiency_record import EfficiencyRecord; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_replays_on_a_gpu_take_no_longer_than_eager_forwards(dtype: DType) -> None:
    lightest = registry.models()["contextnet"]
    p50 = {}
    forms: tuple[Form, ...] = ("eager", "graph")
    for form in forms:
        settings = EfficiencySettings.for_device("cuda", form).model_copy(update={"min_seconds": 1.0, "memory": False})
        record = measure.measure(lightest, 256, 256, device="cuda", dtype=dtype, settings=settings)
        assert record.throughput is not None
        p50[form] = record.latency.p50_ms
    assert p50["graph"] < p50["eager"]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_figure_on_a_gpu(file: Path, dtype: str) -> None:
    record = measure.measure(entry(file), 64, 64, device="cuda", dtype=dtype, settings=SHORT)  # type: ignore[arg-type]
    assert (record.device, record.dtype) == ("cuda", dtype)
    assert record.device_name == torch.cuda.get_device_name()
    assert len(record.latency.raw_ms) == 3
    assert record.throughput is not None
    assert record.memory is not None
    assert record.memory.forward_peak_bytes is not None
    assert record.memory.train_step_peak_bytes is not None
    assert record.memory.train_step_peak_bytes > record.memory.forward_peak_bytes > 0
