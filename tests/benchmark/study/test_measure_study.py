from __future__ import annotations

from pathlib import Path

from benchmark.config import registry
from benchmark.devices.hardware_slots import Hardware
from benchmark.study import measure_study

CPU, GPU = Hardware("cpu", 2), Hardware("cuda:0", 4)


def test_every_setting_is_measured_once_for_all_networks_before_the_next() -> None:
    entries = registry.select("unet,eal_icnet")
    jobs = measure_study.profile_jobs(Path("x"), entries, " 64,32,64", "float32, bfloat16", [CPU, GPU, CPU], 3)
    assert [(job.device, job.threads, job.size, job.dtype, job.entry.name) for job in jobs] == [
        (place.device, place.threads, size, dtype, name)
        for place in (CPU, GPU)
        for size in (64, 32)
        for dtype in ("float32", "bfloat16")
        for name in ("eal_icnet", "unet")
    ]
    assert {(job.channels, job.budget_s) for job in jobs} == {(3, None)}
    assert len({job.label for job in jobs}) == 8


def test_budget_is_every_measurement_s() -> None:
    jobs = measure_study.profile_jobs(
        Path("x"), registry.select("unet,eal_icnet"), "64,32", "float32", [CPU], 1, budget_s=20.0
    )
    assert [job.budget_s for job in jobs] == [20.0] * 4


def test_forms_are_measured_on_devices_that_have_them_and_have_separate_files() -> None:
    entries = registry.select("unet")
    jobs = measure_study.profile_jobs(Path("x"), entries, "64", "float32", [CPU, GPU], 1, "eager,graph,compile,eager")
    assert [(job.device, job.form) for job in jobs] == [
        ("cpu", "eager"), ("cpu", "compile"), ("cuda:0", "eager"), ("cuda:0", "graph"), ("cuda:0", "compile"),
    ]  # fmt: skip
    assert [job.file.name for job in jobs] == [
        "unet.64x64.cpu.float32.json",
        "unet.64x64.cpu.float32.compile.json",
        "unet.64x64.cuda.float32.json",
        "unet.64x64.cuda.float32.graph.json",
        "unet.64x64.cuda.float32.compile.json",
    ]
    assert len({job.label for job in jobs}) == 3
