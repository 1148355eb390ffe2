"""A study small enough for a test: a protocol of four steps, a stand-in of ten images, a network of 60 weights."""

from __future__ import annotations

import contextlib
import functools
import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer.main

from benchmark.cli import main
from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.datasets import Source, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import Pack, open_pack
from benchmark.data.tasks import Task
from benchmark.devices import facts
from benchmark.devices.hardware_slots import Hardware
from benchmark.efficiency import limits, memory
from benchmark.executors import local, worker
from benchmark.records.efficiency_record import EfficiencySettings
from benchmark.runs.jobs import TrainJob
from benchmark.study import measure_study
from benchmark.study.plan import make_plan
from benchmark.study.study import Study
from benchmark.utils import extensions
from tests.benchmark.executors.in_process import NoSlots, NoWorker
from tests.benchmark.report import fake

TINY = Path(__file__).with_name("tiny.py")
SMALL = (
    "input.size=32",
    "input.tile=64",
    "split.counts=[6,2,2]",
    "data.standin_images=10",
    "training.steps=4",
    "training.validate_every=2",
    "training.norm_reestimation_batches=2",
    "training.mixed_precision=off",
)


@pytest.fixture(scope="session")
def small() -> Protocol:
    return load_protocol("quick", SMALL)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def source(small: Protocol, cache: Path) -> Source:
    (source,) = resolve("omc-syn", cache / "no data", small, HashCache(cache / "hashes.json"))
    return source


@pytest.fixture(scope="session")
def pack(source: Source, small: Protocol, cache: Path) -> Pack:
    return open_pack(source, small, cache)


@pytest.fixture
def make_study(tmp_path: Path, source: Source, cache: Path) -> Callable[..., Study]:
    def make(protocol: Protocol, *classes: str, name: str = "small") -> Study:
        entries = registry.select([f"{TINY}:{name}" for name in classes or ("TinyNet",)])
        return Study(tmp_path / name, protocol, entries, [Task((source,), (source,))], Hardware("cpu", 1), cache)

    return make


@pytest.fixture
def make_job(make_study: Callable[..., Study]) -> Callable[..., TrainJob]:
    def make(protocol: Protocol, *, repeat: int = 0, name: str = "small") -> TrainJob:
        return next(job for job in make_plan(make_study(protocol, name=name)).todo if job.repeat == repeat)

    return make


Measured = Callable[..., None]


@pytest.fixture
def measured(tmp_path: Path) -> Measured:
    """Begin a study, for tests about something else, in which the efficiency of tiny networks is known."""

    def begin(study: str, *networks: str, side: int = 32, code: str | None = fake.TINY_CODE) -> None:
        here = {"name": facts.cpu_name(), "threads": 1, "network_code": code}
        for network in networks or ("tinynet",):
            fake.write_efficiency(tmp_path / "results" / study, network, side, **here)

    return begin


@pytest.fixture
def short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a measurement take milliseconds; memory, for which a process would import torch, has a figure given here."""
    usual = EfficiencySettings.for_device
    short = {"min_seconds": 0.0}
    monkeypatch.setattr(EfficiencySettings, "for_device", lambda *of: usual(*of).model_copy(update=short))
    monkeypatch.setattr(measure_study, "THROUGHPUT_S", 0.02)
    monkeypatch.setattr(memory, "in_fresh_process", lambda *_: 1 << 20)
    monkeypatch.setattr(limits, "COPIED_BYTES", 1 << 20)
    monkeypatch.setattr(limits, "LONG_MS", 1.0)
    monkeypatch.setattr(limits, "TIMINGS", limits.PROBE)


LAB = """
import numpy as np
import torch
from benchmark.metrics import Metric

def hinge(logits, mask, counted):
    errors = torch.relu(1 - logits * (2 * mask - 1))
    return errors.mean() if counted is None else (errors * counted).sum() / counted.sum().clamp(min=1)

def per_image(logits, mask, counted):
    return (logits - mask).square().mean(dim=(1, 2, 3))

def speckle(images, generator):
    return images * (1 + 0.3 * torch.randn(images.shape, generator=generator, device=images.device))

def crop(images, generator):
    return images[..., 1:]

errors = Metric(
    name="errors", display="Wrong pixels", definition="Pixels of the wrong class.", formula="fp + fn", unit="count",
    columns=("fp", "fn"), higher_is_better=False, compute=lambda c: (c["fp"] + c["fn"]).astype(np.float64),
)
"""
LAB_POINTS = """
[eal_icnet_benchmark.losses]
hinge = lab_extensions:hinge
per_image = lab_extensions:per_image
[eal_icnet_benchmark.transforms]
speckle = lab_extensions:speckle
crop = lab_extensions:crop
[eal_icnet_benchmark.metrics]
errors = lab_extensions:errors
"""


@pytest.fixture
def install_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Install a package with two losses, two transforms and a metric, or other entry points."""
    site = tmp_path / "site-packages"

    def forget() -> None:
        extensions.installed.cache_clear()
        extensions.load.cache_clear()
        extensions.imports.cache_clear()
        sys.modules.pop("lab_extensions", None)

    def install(version: str = "1.0", points: str = LAB_POINTS, code: str = LAB) -> None:
        forget()
        info = site / "lab-1.0.dist-info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: lab\nVersion: {version}\n")
        (info / "entry_points.txt").write_text(points)
        (site / "lab_extensions.py").write_text(code)
        monkeypatch.syspath_prepend(str(site))
        importlib.invalidate_caches()

    yield install
    forget()


Call = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True, scope="session")
def _one_tree_of_verbs() -> Iterator[None]:
    """Let typer read the flags of all verbs once, and not at each call, where a shell has one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Call:
    """Run a command line in this process, in an empty folder; return exit code, output and errors."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as end:
            main.main()
        out, err = capfd.readouterr()
        return int(end.value.code or 0), out, err

    return run


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let command lines do their jobs in this process: a worker would import torch for seconds."""
    do_without_workers(monkeypatch)


def do_without_workers(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(local, "LocalExecutor", NoSlots)
    patch.setattr(worker, "Worker", NoWorker)


@pytest.fixture
def blank_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let reports have empty plots, which take most of their time, in files and page; figures are still made."""
    leave_plots_blank(monkeypatch)


def leave_plots_blank(patch: pytest.MonkeyPatch) -> None:
    for module in ("build", "plots.panels"):
        patch.setattr(f"benchmark.report.{module}.plot_style", SimpleNamespace(save=lambda figure, kind: b""))
    patch.setattr(
        "benchmark.report.page.drawings.to_svg", lambda figure, name: f'<svg class="drawn" aria-label="{name}"></svg>'
    )


def settings(*more: str) -> list[str]:
    return [word for setting in (*SMALL, *more) for word in ("--set", setting)]


def tiny_run(*more: str, repeats: int = 1) -> list[str]:
    return [
        *("run", "--models", f"{TINY}:TinyNet", "--datasets", "omc-syn", "--protocol", "quick", "--device", "cpu"),
        *("--threads", "1", "--repeats", str(repeats), *settings(), *more),
    ]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the tiny network was trained twice."""
    folder = tmp_path_factory.mktemp("finished")
    fake.write_efficiency(folder / "results/quick", "tinynet", 32, name=facts.cpu_name(), threads=1)
    with pytest.MonkeyPatch.context() as patch, contextlib.chdir(folder):
        do_without_workers(patch)
        leave_plots_blank(patch)
        patch.setattr("sys.argv", ["benchmark", *tiny_run("--execution", "eager", repeats=2)])
        with pytest.raises(SystemExit) as end:
            main.main()
    assert not end.value.code
    return folder


@pytest.fixture
def finished(workplace: Path, tmp_path: Path, call: Call) -> Path:
    """The study in the test's own folder, which `call` enters."""
    shutil.copytree(workplace, tmp_path, dirs_exist_ok=True)
    return tmp_path / "results/quick"
