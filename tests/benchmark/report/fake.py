"""Study folders made of plausible random counts, written with the harness's own records."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmark.config import code_identity, registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.evaluation.counts import reduce_counts
from benchmark.records.efficiency_record import (
    Conditions,
    EfficiencyRecord,
    EfficiencySettings,
    Latency,
    Memory,
    Throughput,
)
from benchmark.records.run_record import Failure, KeyParts, Record
from benchmark.records.store import RECORD, Store, read_record

MODELS = [entry.name for entry in registry.select("all")]
PIXELS = 96 * 96
CPU = "AMD EPYC 9B14 96-Core Processor"
TINY_CODE = code_identity.code_digest(*registry.select(f"{Path(__file__).parents[1] / 'tiny.py'}:TinyNet"))


def random_of(*names: object) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(names).encode()).digest()[:8], "little"))


def counts(quality: float, rng: np.random.Generator, images: int = 8) -> list[dict[str, int]]:
    """Counts of images with about a third of foreground, of which a share of ``quality`` is right."""
    rows = []
    for _ in range(images):
        foreground = int(rng.integers(PIXELS // 4, PIXELS // 2))
        fn, fp = (int(foreground * (1 - quality) * rng.uniform(0.6, 1.4)) for _ in range(2))
        tp = foreground - fn
        union = tp + fp + fn
        lost = int(0.1 * (1 - quality) * tp * rng.uniform(0.5, 1.5))
        rows.append(
            {
                "ignored": 0, "tp": tp, "fp": fp, "fn": fn, "tn": PIXELS - union,
                "aji_num": tp - lost, "aji_den": union + lost,
                "ajip_num": tp - 2 * lost, "ajip_den": union + 2 * lost,
                "nets": 9, "components": 9, "opens": int(rng.integers(3)), "shorts": int(rng.integers(2)),
                "missed": 1, "false": 1, "correct": int(rng.integers(4, 7)),
            }
        )  # fmt: skip
    return rows


def write_counts(file: Path, rows: Sequence[dict[str, int]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", "group", *rows[0], "miou"])
        # The ratio is wrong on purpose: reports must come from the integers.
        writer.writerows([f"{number}.png", f"g{number // 2}", *row.values(), 0.123] for number, row in enumerate(rows))


def write_run(
    folder: Path,
    model: str,
    train: Iterable[str],
    repeat: int,
    rows: Sequence[dict[str, int]] | None,
    failure: Failure | None = None,
    test: Iterable[str] | None = None,
    status: str | None = None,
    identity: str | None = None,
) -> Path:
    train, test = tuple(train), tuple(test or train)
    record = Record(
        key="0" * 16,
        key_parts=KeyParts(protocol="p", data="d", model=identity or model, behaviour=1, repeat=repeat),
        status=status or ("failed" if failure else "ok"),
        model=model,
        train=train,
        test=test,
        repeat=repeat,
        seed=1,
        metrics={name: reduce_counts(rows) for name in test} if rows else {},
        failure=failure,
    )
    run = Store(folder).run_folder(train, model, repeat)
    run.mkdir(parents=True, exist_ok=True)
    for name in test if rows else ():
        write_counts(run / f"images.{name}.csv", rows)
    (run / RECORD).write_bytes(record.to_json())
    return run


def write_history(run: Path, losses: Sequence[float]) -> None:
    lines = [f"{n},{10 * n},{loss / 2},{loss},0.001,1.0,9.0" for n, loss in enumerate(losses, 1)]
    header = "round,steps,train_loss,validation_loss,lr,seconds,images_per_second"
    (run / "history.csv").write_text("\n".join([header, *lines]) + "\n")


def write_efficiency(
    folder: Path, model: str, size: int = 96, device: str = "cpu", name: str = CPU, **changes: object
) -> None:
    entry = registry.models().get(model)
    params = entry.params if entry and entry.params else 500_000
    macs = int(1e9 * ((entry and entry.gmacs(size, size)) or 0.2))
    rng = random_of(model, name)
    p50 = 2.0 + macs / 4e7 * rng.uniform(0.7, 1.6)
    moment = Conditions(clock_mhz=2600.0, load_average=1.0)
    raw = [p50 * factor for factor in rng.uniform(0.98, 1.05, 400)]
    record = EfficiencyRecord(
        **{
            "model": model, "model_version": 1, "height": size, "width": size, "in_channels": 1, "classes": 1,
            "device": device, "device_name": name, "dtype": "float32",
            "float32_precision": "convolution tf32, matmul highest", "threads": 2, "torch": "2.15.0",
            "settings": EfficiencySettings.for_device(device), "params": params, "unused_params": {}, "macs": macs,
            "flops": 2 * macs, "macs_by_operator": {"conv": macs}, "latency": Latency.from_raw(raw, moment, moment),
            "throughput": Throughput(batch=8, images_per_second=1500 / p50, tried=(), stopped=None),
            "memory": Memory(
                forward_peak_bytes=params * 9, train_step_peak_bytes=params * 30,
                method="growth of the resident set in a fresh process",
            ),
            "energy_j_per_image": None, "warnings": (),
            "network_code": TINY_CODE if model == "tinynet" else None,
            **changes,
        }
    )  # fmt: skip
    file = Store(folder).efficiency_file(
        model, size, device, record.dtype, classes=record.classes, form=record.settings.form
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(record.to_json())


def protocol(*overrides: str) -> Protocol:
    """Sizes and steps that the tests' expectations were worked out for."""
    preset = ("input.size=96", "input.tile=192", "training.steps=60", "training.validate_every=30")
    return load_protocol("quick", [*preset, *overrides])


def write_protocol(folder: Path, *overrides: str) -> None:
    Store(folder).write_protocol(protocol(*overrides))


def write_study(
    folder: Path, models: Sequence[str] = MODELS, datasets: Sequence[str] = ("omc-syn", "miic-syn"), repeats: int = 3
) -> Path:
    """A finished study with reference rows and efficiency figures."""
    write_protocol(folder)
    for dataset in datasets:
        for model in models:
            quality = random_of(model, dataset).uniform(0.86, 0.96)
            for repeat in range(repeats):
                rng = random_of(model, dataset, repeat)
                write_run(folder, model, [dataset], repeat, counts(quality + rng.normal(0, 0.004), rng))
        rng = random_of(dataset)
        write_counts(folder / f"references/{dataset}.otsu.csv", counts(0.7, rng))
        background = []
        for row in counts(0.5, rng):
            foreground = row["tp"] + row["fn"]
            nothing = {"tp": 0, "fp": 0, "fn": foreground, "tn": PIXELS - foreground, "aji_num": 0, "ajip_num": 0}
            background.append(row | nothing)
        write_counts(folder / f"references/{dataset}.background.csv", background)
    for model in models:
        write_efficiency(folder, model)
    return folder


def change(folder: Path, changes: Callable[[Record], dict[str, object]], run: str = "*/*/*") -> None:
    """Rewrite the records of a study's runs."""
    files = list((folder / "runs").glob(f"{run}/{RECORD}"))
    assert files
    for file in files:
        record = read_record(file)
        assert record is not None
        file.write_bytes(record.model_copy(update=changes(record)).to_json())
