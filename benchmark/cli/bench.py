"""Defines the ``bench`` verb: times the harness against the plain way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from benchmark.cli.options import Cache, DataRoot, Device, Models, Results, Threads
from benchmark.devices.hardware_slots import hardware_of
from benchmark.records.user_folders import DATA_ROOT, check_data_root, find_study, study_folder
from benchmark.utils.errors import UserError, did_you_mean, require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn

    from benchmark.config.registry import ModelEntry
    from benchmark.records.run_record import FailureKind
    from benchmark.speedup.compare import ComparedWork

METHOD, LIGHTEST = "eal_icnet", "contextnet"
TIMINGS, ROUNDS, SECONDS = 7, 3, 3.0
EACH = (
    "forward, replayed, runtimes, int8, forward_memory, train_step, train_step_memory, training, together, "
    "together_replayed, feeding, loop, start_up"
)


def bench(
    models: Models = "all",
    sizes: Annotated[
        str, typer.Option(help="Comma list of input sides, pixels; networks without attention use the first.")
    ] = "512,1024",
    only: Annotated[str, typer.Option(help=f"Comma list of measurements: {EACH}; default: all.")] = "",
    weights: Annotated[
        str, typer.Option(help="Study of trained networks: EAL-ICNet's masks in bfloat16, all networks in int8.")
    ] = "quick",
    device: Device = "auto",
    threads: Threads = None,
    study: Annotated[str, typer.Option(help="Name of the study that keeps the figures.")] = "bench",
    results: Results = Path("results"),
    data_root: DataRoot = DATA_ROOT,
    cache: Cache = None,
) -> None:
    """Time the harness beside the plain way and other runtimes. Let nothing else run meanwhile."""
    from benchmark.cli.progress import open_console
    from benchmark.config import registry
    from benchmark.config.protocol import load_protocol
    from benchmark.data.datasets import resolve
    from benchmark.data.fingerprint import HashCache
    from benchmark.records import provenance
    from benchmark.records.efficiency_record import EfficiencySettings
    from benchmark.records.store import Store
    from benchmark.report import build
    from benchmark.runs.failures import describe_failure
    from benchmark.speedup.compare import IMAGES, Subject, measurements
    from benchmark.speedup.setting import SpeedupSetting
    from benchmark.study.measure_study import side
    from benchmark.training.probe import ProbeInput, probe_networks
    from benchmark.utils.files import write_atomically

    console, folder = open_console(), study_folder(results, study)
    check_data_root(data_root)
    comparisons, hardware = _comparisons(only), hardware_of(device, threads)
    method, lightest = (registry.models()[name] for name in (METHOD, LIGHTEST))
    alone = comparisons == ("int8",)  # of a study's networks, which may be known by their names there alone
    others = [entry for entry in ([] if alone else registry.select(models)) if entry.name != METHOD]
    sides = list(dict.fromkeys(side(text, [method, lightest, *others]) for text in sizes.split(",")))
    squares = [ProbeInput(of, channels=1) for of in sides]
    probe_networks(others, squares, console.print, on_cpu=hardware.kind == "cpu")
    protocol = load_protocol("paper", [f"input.size={sides[0]}", f"data.standin_images={IMAGES}"])
    cache = cache or data_root / ".cache"
    (source,) = resolve("omc-syn", data_root, protocol, HashCache(cache / "hashes.json"))
    weights_folder = find_study(results, weights, "--weights")
    timing = EfficiencySettings(warm_up=1, min_iterations=TIMINGS, min_seconds=SECONDS)
    trained = _trained(weights_folder, method) if "forward" in comparisons else None
    if trained is None and "forward" in comparisons:
        console.print(f"--weights {weights}: no trained {METHOD} of a stand-in there; masks are not compared")
    quantised: list[tuple[ModelEntry, str]] = []
    if "int8" in comparisons:
        try:
            quantised = _quantisable(weights_folder, models, hardware.kind)
        except UserError as error:
            if only:
                raise
            console.print(f"{error}; int8 is left out")
    packages = Store(folder).write_packages(provenance.packages())
    setting = SpeedupSetting(hardware.device, hardware.threads, timing, ROUNDS, {"package_list": packages})
    subject = Subject(
        *(method, others, lightest, sides, source, protocol, data_root, cache, trained), (weights_folder, quantised)
    )
    kinds: set[FailureKind | None] = set()  # of failures; None for a figure
    for name, measure in measurements(subject, comparisons, setting):
        console.print(name)
        try:
            record = measure()
        except Exception as error:  # a user's network may raise anything
            measured = (entry for entry in (method, *others) if entry.name in name.split())
            failure = describe_failure(error, entry=next(measured, None))
            console.print(f"{name}: failed ({failure.kind}): {failure.message}")
            kinds.add(failure.kind)
            continue
        kinds.add(None)
        write_atomically(folder / "bench" / record.file_name, record.to_json())
    if None in kinds:
        build.build(folder)
        for table in ("bench", "runtimes", "int8"):
            if (file := folder / f"report/tables/{table}.md").is_file():
                console.print(file.read_text("utf-8"))
        console.print(f"Report: {folder / 'report/index.html'}")
    # A computation that the device does not support is a finding, not a failure.
    raise typer.Exit(1 if kinds - {None, "unsupported"} else 0)


def _comparisons(only: str) -> tuple[ComparedWork, ...]:
    from benchmark.speedup.compare import ComparedWork

    known: dict[str, ComparedWork] = {name: name for name in get_args(ComparedWork)}
    names = [name.strip() for name in only.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"--only {name!r}: expected {', '.join(known)}{did_you_mean(name, known)}")
    return tuple(known[name] for name in names) or tuple(known.values())


def _quantisable(study: Path, models: str, kind: str) -> list[tuple[ModelEntry, str]]:
    """Return the networks of a study that are compared in int8, each with its training sets.

    Raises:
        UserError: the device is a GPU, a package is missing, or the study has none of these networks.
    """
    from benchmark.records.own_networks import select_networks
    from benchmark.records.packed_study import model_folders

    if kind != "cpu":
        raise UserError("--only int8: by onnxruntime on a CPU only; use --device cpu")
    require("onnx", "onnxscript", "onnxruntime", flag="--only int8", extra="runtimes")
    networks = [
        (entry, path.parent.name)
        for entry in select_networks(study, models)
        for path in sorted(model_folders(study, f"[!.]*/{entry.name}"))
    ]
    if not networks:
        raise UserError(
            f"--weights {study.name}: {study} has no runs of {models}; name a study that was trained with "
            "--keep-weights best-repeat or all"
        )
    return networks


def _trained(study: Path, entry: ModelEntry) -> tuple[nn.Module, Sequence[Tensor]] | None:
    """Return a study's trained network and the test images of the stand-in that it was trained on."""
    import torch

    from benchmark.predict.export.trial_image import test_pictures
    from benchmark.records.packed_study import model_folders
    from benchmark.records.store import Store
    from benchmark.records.weights import find_trained

    trained_on = sorted(path.parent.name for path in model_folders(study, f"*-syn/{entry.name}"))
    if not trained_on or Store(study).read_protocol() is None:
        return None
    try:
        (network,) = find_trained(study, [entry], trained_on[0])
    except UserError:
        return None
    images = [torch.from_numpy(image) for image in test_pictures(study, network)]
    return (network.build(), images) if images else None
