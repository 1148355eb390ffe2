"""Compares trained networks in int8 with float32: time and errors."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from benchmark import metrics
from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.config.targets import dataset_of
from benchmark.data.batches import evaluation_batches, labelled_windows
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import Pack, open_pack
from benchmark.data.tasks import Task
from benchmark.devices.precision import using_threads
from benchmark.evaluation.counts import reduce_counts, window_side
from benchmark.evaluation.evaluate import evaluate
from benchmark.predict.export.export_formats import Array, read_onnx
from benchmark.predict.export.quantised import quantised
from benchmark.predict.fused_network import fuse_trained
from benchmark.predict.runtimes import Deployment, RuntimeNetwork, described, open_runtime
from benchmark.records.run_record import Record
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.records.weights import find_trained
from benchmark.speedup.forwards import random_image, time_in_turn
from benchmark.speedup.setting import SpeedupSetting
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

CPU = torch.device("cpu")
#: Validation images that the ranges of maps are taken from, evenly spread; more hardly widen them.
CALIBRATED = 64
FORM = "batch norms folded, batch 1"


def in_int8(
    study: Path, entry: ModelEntry, train: str, data_root: Path, cache: Path, setting: SpeedupSetting
) -> SpeedupComparison:
    """Compare a trained network in float32 and in int8, both by onnxruntime on the CPU: forwards of one image, metrics.

    Ranges are taken from the validation images of the run's training sets; the test is that of the run.

    Args:
        study: folder of the study of the weights.
        entry: the network.
        train: its training set, such as ``omc-syn`` or ``omc+miic``.
        data_root: where datasets are looked for.
        cache: of packs.
        setting: threads and duration.

    Raises:
        UserError: weights or data of the run are missing or have changed, or no validation images are as large as the
            test's.
        RefusedRuntimeError: onnxruntime cannot compute the network.
    """
    (trained,) = find_trained(study, [entry], train)
    record = trained.record
    assert record is not None
    # One image a forward; the number format is that of the runtime, not of the training.
    protocol = trained.protocol.model_copy(
        update={
            "training": trained.protocol.training.model_copy(update={"mixed_precision": "off"}),
            "evaluation": trained.protocol.evaluation.model_copy(update={"batch": 1}),
        }
    )
    task = _task(record, protocol, data_root, cache)
    packs = {source.name: open_pack(source, protocol, cache) for source in task.sources}

    @functools.cache
    def images(side: int) -> list[Array]:
        return list(_calibration([packs[name] for name in task.train_names], protocol, record.repeat, side))

    @functools.cache
    def networks(side: int) -> dict[str, nn.Module]:
        exact = Deployment(fuse_trained(trained, CPU), trained.channels, side, setting.threads)
        content = quantised(exact.onnx, images(side))
        whole = RuntimeNetwork("onnxruntime", {1: read_onnx(content, setting.threads, 1)})
        return {"plain": open_runtime("onnxruntime", exact), "ours": whole}

    scores: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    with using_threads(setting.threads):
        for source in task.test:
            pack = packs[source.name]
            for way, network in networks(_side(pack, protocol)).items():
                tested = evaluate(network, pack, pack.divide(protocol, record.repeat).test, protocol, CPU)
                for test, rows in tested.items():
                    scores.setdefault(test, {})[way] = reduce_counts(rows, metrics.BUILTIN)
        size = _side(packs[task.test[0].name], protocol)
        raw_ms, hindered = time_in_turn(networks(size), random_image(size, trained.channels), setting)
    runtime = described("onnxruntime")
    return setting.comparison(
        what="int8",
        model=entry.name,
        size=size,
        unit="ms",
        dtype="int8",
        **raw_ms,
        study=study.name,
        run=trained.label,
        scores=scores,
        hindered=hindered,
        plain_form=f"{runtime}, {FORM}",
        our_form=f"{runtime}, {FORM}; static quantisation, weights by output channel, maps by their range on "
        f"{counted(len(images(size)), 'validation image')}",
    )


def _task(record: Record, protocol: Protocol, data_root: Path, cache: Path) -> Task:
    """Return the datasets that a run was trained and tested on."""
    tested = tuple(dict.fromkeys(map(dataset_of, record.test)))
    names = dict.fromkeys((*record.train, *tested))
    hashes = HashCache(cache / "hashes.json")
    sources = {source.name: source for source in resolve(names, data_root, protocol, hashes)}
    remedy = "name the folder of its datasets with --data-root"
    if missing := [name for name in names if name not in sources]:
        raise UserError(f"{record.label}: needs {', '.join(missing)}, found {', '.join(sources)}; {remedy}")
    task = Task(*(tuple(sources[name] for name in part) for part in (record.train, tested)))
    if task.fingerprint != record.key_parts.data:
        raise UserError(f"{record.label}: its images have changed since the run, so metrics would differ; {remedy}")
    return task


def _side(pack: Pack, protocol: Protocol) -> int:
    """Return the side of the windows that a test predicts, pixels."""
    blocks = protocol.evaluation.window == "block"
    return protocol.input.size_for(pack.dataset) if blocks else window_side(pack, protocol)


def _calibration(packs: Sequence[Pack], protocol: Protocol, repeat: int, side: int) -> Iterator[Array]:
    """Yield validation images ``(1, C, side, side)`` of training sets."""
    for pack in packs:
        if pack.images.shape[1] < side:
            raise UserError(
                f"{pack.dataset}: its images have {pack.images.shape[1]} px and those of the test {side}, but int8 "
                "takes the ranges of maps from validation images of the test's size"
            )
        windows = labelled_windows(pack, pack.divide(protocol, repeat).val, side, protocol.split.min_labelled)
        count = min(max(CALIBRATED // len(packs), 1), len(windows))
        chosen = [windows[index] for index in np.linspace(0, len(windows) - 1, count).round().astype(int)]
        for batch in evaluation_batches(pack, chosen, side, 1, CPU):
            yield np.ascontiguousarray(batch.images.numpy())
