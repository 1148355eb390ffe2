"""Defines the functions of ``import benchmark`` that work on studies and networks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from benchmark.api.loaded_study import LoadedStudy
from benchmark.api.ready_network import ReadyNetwork
from benchmark.api.study_bar import StudyBar
from benchmark.api.study_request import StudyRequest, settings_of
from benchmark.config import registry
from benchmark.config.execution import Execution
from benchmark.devices.hardware_slots import hardware_of
from benchmark.efficiency.measure import measure
from benchmark.executors.choice import Engine
from benchmark.records.chosen_networks import input_channels, layer_names, network_of_file
from benchmark.records.efficiency_record import DType, EfficiencySettings
from benchmark.records.user_folders import DATA_ROOT, find_study
from benchmark.report import up_to_date
from benchmark.report.build import build
from benchmark.report.read import Measurement
from benchmark.runs.jobs import KeepWeights
from benchmark.study.probe_networks import probe_study
from benchmark.study.space_estimate import estimate_needs, refuse_unfillable
from benchmark.utils.errors import UserError

RESULTS = Path("results")


def run(
    models: str | Sequence[str] = "all",
    datasets: str | Sequence[str] = "all",
    protocol: str | Path = "paper",
    *,
    train: str | Sequence[str] | None = None,
    test: str | Sequence[str] | None = None,
    leave_one_out: bool = False,
    repeats: int | None = None,
    settings: Mapping[str, Any] | None = None,
    study: str | None = None,
    reference: str | None = None,
    results: str | Path = RESULTS,
    data_root: str | Path = DATA_ROOT,
    cache: str | Path | None = None,
    device: str = "auto",
    threads: int | None = None,
    workers: int | None = None,
    per_gpu: int = 1,
    executor: Engine = "local",
    ray_address: str | None = None,
    slurm: str | None = None,
    execution: Execution = "eager",
    timeout: float | None = None,
    init_from: str | None = None,
    ensembles: bool = False,
    stress: str | None = None,
    strength: str | None = None,
    keep_weights: KeepWeights = "best-repeat",
    tracker: Literal["tensorboard", "mlflow", "wandb"] | None = None,
    real_only: bool = False,
    retry_failed: bool = False,
    replace_stale: bool = False,
    fail_fast: bool = False,
    yes: bool = False,
    report: bool = True,
    progress: bool = True,
) -> LoadedStudy:
    """Train and test networks on datasets, as ``python -m benchmark run`` does; finished runs are not repeated.

    The records are those of the command, to the bit, and each may go on with the other's study. Runs work in processes
    of their own, also from a notebook and from a script without ``if __name__ == "__main__"``. Ctrl-C, or a notebook's
    button, leaves a report of what is there; a second one skips it.

    Args:
        models: names, groups (``all``, ``lightweight``, ``ic``), wildcards or ``path/to/file.py:Class``, as a sequence
            or separated by commas.
        datasets: ``omc``, ``miic``, ``hy5syn``, ``omv``, ``NAME-syn`` for a stand-in, or folders of ``data_root``.
        protocol: ``paper``, ``strict``, ``small``, ``quick``, ``standins`` or a TOML file.
        train: datasets that form one training set; replaces ``datasets``.
        test: datasets to test on; by default those of the training.
        leave_one_out: for each dataset, train on all others and test on this one.
        repeats: of each training; by default the protocol's, or one per fold of ``split.folds``.
        settings: changed settings of the protocol: ``{"training.steps": 600}`` or ``{"training": {"steps": 600}}``.
        study: name of the folder in ``results``; by default the protocol's name.
        reference: the method under test, which the report compares all models with.
        results: folder of studies.
        data_root: folder of datasets.
        cache: folder for decoded datasets; ``data_root/.cache`` by default.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU in total; all cores by default.
        workers: parallel runs.
        per_gpu: parallel runs on each GPU.
        executor: ``local``, ``ray`` or ``slurm``.
        ray_address: Ray cluster.
        slurm: options of Slurm, ``KEY=VALUE,...``.
        execution: ``auto``, ``eager``, ``graph`` or ``compile``.
        timeout: seconds after which a run counts as failed.
        init_from: weights to start from: another study's, ``STUDY[:TRAINED_ON]``, or a file's.
        ensembles: also test the mean of each network's repeats, whose weights are then all kept.
        stress: effects that test the trained networks on harder stand-ins.
        strength: factors of these effects.
        keep_weights: ``best-repeat``, ``all`` or ``none``.
        tracker: also writes files for ``tensorboard``, ``mlflow`` or ``wandb``.
        real_only: refuse synthetic stand-ins.
        retry_failed: run failed runs again.
        replace_stale: set aside runs made under other settings, and run them again.
        fail_fast: stop at the first failure.
        yes: start even if a CPU would need more than twelve hours.
        report: write the report too, if anything changed.
        progress: show a bar, and a line for each run that failed.

    Returns:
        The study's results. Failed runs are rows of ``table("runs")``.

    Raises:
        UserError: an argument names something that is not there, or does not fit the others; the message names the
            command's flag of the argument's name.
        KeyboardInterrupt: the call was interrupted; the same call goes on from there.

    Example:
        >>> study = benchmark.run(models="edanet", datasets="omc", protocol="quick", repeats=1)  # doctest: +SKIP
        >>> study.table("accuracy")["miou"]                                                      # doctest: +SKIP
    """
    request = StudyRequest.of(
        models=_joined(models),
        datasets=_joined(datasets),
        protocol=str(protocol),
        train=None if train is None else _joined(train),
        test=None if test is None else _joined(test),
        leave_one_out=leave_one_out,
        repeats=repeats,
        settings=tuple(settings_of(settings or {})),
        study=study,
        reference=reference,
        results=Path(results),
        data_root=Path(data_root),
        cache=None if cache is None else Path(cache),
        device=device,
        threads=threads,
        workers=workers,
        per_gpu=per_gpu,
        executor=executor,
        ray_address=ray_address,
        slurm=slurm,
        execution=execution,
        timeout=timeout,
        init_from=init_from,
        ensembles=ensembles,
        stress=stress,
        strength=strength,
        keep_weights=keep_weights,
        tracker=tracker,
        real_only=real_only,
        retry_failed=retry_failed,
        replace_stale=replace_stale,
        fail_fast=fail_fast,
    )
    planned = request.plan()
    folder = planned.study.folder
    if planned.takes_too_long and not yes:
        raise UserError(
            f"about {planned.plan.seconds / 3600:.0f} hours on this CPU; expected less than half a day: take "
            'protocol="small" or "quick", fewer models or datasets, a GPU, or yes=True'
        )
    probe_study(planned.study, planned.plan, print if progress else lambda line: None)
    estimate_needs(planned.study, planned.plan).refuse_full_disk()
    refuse_unfillable(planned.study, planned.plan)
    try:
        with StudyBar(planned.plan, shown=progress) as bar:
            planned.execute(bar.show)
    except KeyboardInterrupt:
        if report:
            if progress:
                print("Interrupted. Making a report of what is there; the same call goes on from here.")
            with contextlib.suppress(UserError):  # nothing to report yet
                _make_report(folder)
        raise
    if report:
        _make_report(folder)
    return load(folder)


def _make_report(folder: Path) -> None:
    """Make a study's report, unless nothing has changed since it was made."""
    if not up_to_date.is_up_to_date(folder):
        build(folder)


def load(*studies: str | Path, results: str | Path = RESULTS) -> LoadedStudy:
    """Read a study's results, or those of several studies as one.

    Args:
        studies: folders, or names of folders in ``results``; several must agree in settings, data and code.
        results: folder of studies.

    Raises:
        UserError: no such study, a broken file in it, or studies that must not be merged.
    """
    if not studies:
        raise UserError("load() without a study; expected folders or names, such as load('results/quick')")
    folders = [study if isinstance(study, Path) else find_study(Path(results), study, "study") for study in studies]
    return LoadedStudy.read(folders)


def network(
    model: str,
    weights: str | Path,
    *,
    size: int | None = None,
    layers: str | Sequence[str] | None = None,
    device: str = "auto",
) -> ReadyNetwork:
    """Return a network with weights from elsewhere, ready for images of any size.

    Args:
        model: its name, or ``path/to/file.py:Class``.
        weights: a file of safetensors, or a ``state_dict`` saved by torch; it decides between gray and RGB.
        size: side of the training's inputs in pixels; by default 512.
        layers: names of the layers that the network marks, in the order of its logits; by default a single layer.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: no such file or model, or weights of another network.

    Example:
        >>> network = benchmark.network("unet", "lab/unet.pth", size=256)  # doctest: +SKIP
        >>> mask = network.predict("scans/die.tif")                        # doctest: +SKIP
    """
    names = layer_names(None if layers is None else _joined(layers))
    return ReadyNetwork.of([network_of_file(Path(weights), model, size, names)], device)


def profile(
    models: str | Sequence[str] = "all",
    size: int | tuple[int, int] = 512,
    *,
    channels: int | None = None,
    weights: str | Path | None = None,
    layers: str | Sequence[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
    dtype: DType = "float32",
    budget: float | None = None,
) -> pd.DataFrame:
    """Measure what networks cost; nothing else should use the machine meanwhile.

    Args:
        models: as for :func:`run`.
        size: side of a square input, or height and width, pixels.
        channels: of the input; by default 1, or those of ``weights``.
        weights: a file of one network's weights, as :func:`network` takes it; by default random ones.
        layers: names of the layers that the networks mark, a logit each; by default a single one.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        threads: of the CPU; all cores by default.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
        budget: seconds for each network's times; by default as long as stable figures need.

    Returns:
        A row per network: ``params``, ``macs`` (multiply-accumulates), ``latency_p50_ms``, ``fps``, bytes of memory and
        more, of single images (batch 1).

    Raises:
        UserError: a network does not take the size, the weights are another network's, or the device is missing.

    Example:
        >>> costs = benchmark.profile("edanet", size=512, weights="lab/edanet.pth")  # doctest: +SKIP
        >>> costs.loc["edanet", ["params", "latency_p50_ms"]]                       # doctest: +SKIP
    """
    height, width = (size, size) if isinstance(size, int) else size
    hardware = hardware_of(device, threads)
    settings = EfficiencySettings.for_device(hardware.device)
    if budget is not None:
        settings = settings.model_copy(update={"budget_seconds": budget})
    names, file = _joined(models), None if weights is None else Path(weights)
    of_layers = layer_names(None if layers is None else _joined(layers))
    entries, channels = registry.select(names), input_channels(names, file, channels, of_layers)
    figures = [
        Measurement.of(
            measure(
                entry,
                height,
                width,
                in_channels=channels,
                classes=max(1, len(of_layers)),
                device=hardware.device,
                dtype=dtype,
                threads=hardware.threads_each,
                settings=settings,
                weights=file,
            )
        ).figures
        for entry in entries
    ]
    return pd.DataFrame(figures, index=pd.Index([entry.name for entry in entries], name="model"))


def _joined(names: str | Sequence[str]) -> str:
    """Return names as a flag takes them; what is no sequence is refused later, by its argument's name."""
    return ",".join(map(str, names)) if isinstance(names, list | tuple) else names  # type: ignore[return-value]
