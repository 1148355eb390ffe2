"""Trains one network, tests it and writes its record."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from benchmark import metrics
from benchmark.config import code_identity, extension_code
from benchmark.config.protocol import Protocol
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches, labelled_windows
from benchmark.data.datasets import Source
from benchmark.data.packs import Pack, open_pack
from benchmark.data.splits import Division
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import autocast, compute_dtype, to_device
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.evaluation import kept_images
from benchmark.evaluation.counts import Row, counts_csv, reduce_counts
from benchmark.evaluation.evaluate import evaluate
from benchmark.records import environment
from benchmark.records.history import HISTORY, Round, history_csv
from benchmark.records.run_record import BOUNDED, Record, TrainingFacts
from benchmark.records.store import CHECKPOINT, Store
from benchmark.records.weights import load_weights, read_weights
from benchmark.runs.cost import Meter
from benchmark.runs.jobs import OnStep, TrainJob
from benchmark.training import depthwise_layout, determinism
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.finetune import load_initial_weights
from benchmark.training.loop import TrainingResult, train
from benchmark.training.trackers import Tracker
from benchmark.utils import seeds
from benchmark.utils.errors import UserError
from benchmark.utils.files import write_atomically
from benchmark.utils.words import counted

FIRST_STEP = "first training step done"  # a line of the run's log


class _Part(NamedTuple):
    """One opened dataset of a run."""

    source: Source
    pack: Pack
    division: Division


def train_and_test(job: TrainJob, on_step: OnStep) -> Record:
    """Train and test one network and write its record.

    Raises:
        UserError: data or settings do not fit.
        NonFiniteLossError: NaN or infinite loss.
        NotDeterministicError: an operation has no deterministic kernel, but the protocol requires one.
    """
    with (
        determinism.kernels(job.protocol.determinism),
        keeping_freed_memory(),
        Tracker(job.tracker, job.folder, job.study.name) as tracker,
    ):
        torch.set_num_threads(job.threads)
        device = torch.device(job.device)
        meter = Meter(device)
        parts = {}
        for source in job.task.sources:
            pack = open_pack(source, job.protocol, job.cache)
            parts[source.name] = _Part(source, pack, pack.divide(job.protocol, job.repeat))
        training_parts = [parts[name] for name in job.task.train_names]
        network = to_device(build_network(job), device)
        extension_code.refuse_changed(job.protocol)
        network_code = code_identity.unchanged_code(job.entry, job.key_parts.model)
        size, channels = job.task.input_size(job.protocol), job.task.channels(job.protocol)
        operations = determinism.nondeterministic_operations(network, job.entry.multiple, size, channels, job.protocol)

        training_images = [(part.pack, part.division.train) for part in training_parts]
        batches = TrainingBatches(training_images, size, job.protocol, job.repeat, device)
        launch = Launch(network, device, job.execution)
        layout = depthwise_layout.choose(launch, batches, job.protocol, Store(job.study), job.entry.name)
        meter.forget_peak()  # of steps that were timed
        torch.manual_seed(seeds.derive(job.protocol.seed, "dropout", job.task.name, job.repeat))
        checkpoint = Checkpoint(job.folder / CHECKPOINT, job.key)
        started = time.perf_counter()

        def validation() -> Iterator[Batch]:
            for part in training_parts:
                windows = labelled_windows(part.pack, part.division.val, size, job.protocol.split.min_labelled)
                yield from evaluation_batches(part.pack, windows, size, job.protocol.evaluation.batch, device)

        def on_training_step(done: int, total: int) -> None:
            if done == 1:
                print(f"{FIRST_STEP} after {time.perf_counter() - started:.1f} s", flush=True)
            on_step(done, total)

        bounded: list[bool] = []  # whether a user's outputs lie in [0, 1]; known after the session's first round

        def on_round(history: Sequence[Round]) -> None:
            tracker.rounds(history)
            _write_history(job, history)
            if history and not bounded and job.entry.family == "user":
                bounded.append(_in_unit_interval(network, validation(), job.protocol, device))

        protocol = job.protocol.model_copy(update={"training": job.protocol.training.for_model(job.entry.name)})
        trained = train(network, batches, validation, protocol, on_training_step, checkpoint, launch, on_round)
        started = time.perf_counter()
        rows: dict[str, list[Row]] = {}
        predictions: dict[str, bytes] = {}
        for source in job.task.test:
            pack, tiles = parts[source.name].pack, parts[source.name].division.test
            keeper = kept_images.Keeper(pack, pack.tested(job.protocol), job.protocol)
            rows |= evaluate(network, pack, tiles, job.protocol, device, keeper, launch)  # nothing without test images
            predictions |= keeper.content()
        cost = meter.cost(test_seconds=time.perf_counter() - started, earlier_seconds=trained.earlier_seconds)
        record = job.record(
            status="ok",
            metrics={name: reduce_counts(tested, metrics.BUILTIN) for name, tested in rows.items()},
            training=_facts(trained, training_parts, _count_tested(job, rows)),
            cost=cost,
            environment=job.environment(
                **environment.computing(job.device),
                compute_dtype=compute_dtype(device, job.protocol),
                nondeterministic_operations=operations,
                **({"network_code": network_code} if network_code else {}),
                **({BOUNDED: True} if any(bounded) else {}),
                **({"depthwise_layout": layout} if layout else {}),
                **launch.facts(),
            ),
        )
        weights = None
        if job.keep_weights != "none":
            weights = to_safetensors({name: t.detach().cpu().contiguous() for name, t in network.state_dict().items()})
        images = {name: counts_csv(tested) for name, tested in rows.items()}
        store = Store(job.study)
        store.write_run(record, images, trained.history, weights, predictions)
        tracker.result(record, job.protocol, trained.best.steps)
        if job.keep_weights == "best-repeat":
            # Another repeat's broken record does not spoil this run.
            with contextlib.suppress(UserError, OSError):
                store.keep_best_weights(record.train, record.model)
        return record


def _write_history(job: TrainJob, history: Sequence[Round]) -> None:
    """Write the rounds so far; rounds of an earlier session after its last checkpoint are done again."""
    file = job.folder / HISTORY
    if not history:
        file.unlink(missing_ok=True)
        return
    try:
        write_atomically(file, history_csv(history))
    except UserError as error:
        print(f"no history this time: {error}", flush=True)  # into the run's log; the end of the run writes all


def _in_unit_interval(network: nn.Module, batches: Iterator[Batch], protocol: Protocol, device: torch.device) -> bool:
    """Return whether all outputs for a batch lie in [0, 1]; random states and weights stay unchanged."""
    batch = next(batches, None)
    if batch is None:
        return False
    network.eval()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), autocast(device, protocol):
        outputs = network(batch.images)
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def build_network(job: TrainJob) -> nn.Module:
    """Build a network from the seed of (base, datasets, repeat), on the CPU so that all devices start alike.

    If the run starts from other weights, of the network or of its encoder, they replace the random ones.
    """
    protocol, file = job.protocol, job.protocol.training.encoder_file
    torch.manual_seed(seeds.derive(protocol.seed, "init", job.task.name, job.repeat))
    encoder: dict[str, Any] = {"encoder_weights": "imagenet"} if protocol.training.encoder_weights and not file else {}
    try:
        network = job.entry.build(in_channels=job.task.channels(protocol), classes=len(job.task.layers), **encoder)
    except TypeError as error:
        if encoder and "encoder_weights" in str(error):
            raise UserError(
                f"{job.entry.name}: has no pretrained encoder; use --set training.encoder_weights=none"
            ) from error
        raise
    except Exception as error:  # of many kinds: no such weights, no connection, no space
        if encoder and not isinstance(error, UserError):
            raise UserError(
                f"{job.entry.name}: its pretrained encoder cannot be loaded ({' '.join(str(error).split())[:300]}); "
                "connect this machine, or use --set training.encoder_weights=none"
            ) from error
        raise
    if job.init is not None:
        load_initial_weights(network, job.init)
    if file is not None:
        if not isinstance(encoder_module := getattr(network, "encoder", None), nn.Module):
            raise UserError(
                f"{job.entry.name}: has no module `encoder` for {file}; use --set training.encoder_weights=none"
            )
        try:
            load_weights(encoder_module, file, read_weights(file))
        except UserError as error:
            raise UserError(
                f"training.encoder_weights of {job.entry.name}: {error}. Its file is the state_dict of this network's "
                f"module `encoder` with {counted(job.task.channels(protocol), 'input channel')}, as "
                "torch.save(network.encoder.state_dict(), FILE) writes it"
            ) from error
    return network


def _count_tested(job: TrainJob, rows: Mapping[str, Sequence[Row]]) -> int:
    """Return the number of tested images or blocks; layers share theirs."""
    return sum(len(rows.get(next(iter(source.tests)), ())) for source in job.task.test)


def _facts(trained: TrainingResult, parts: Sequence[_Part], tested: int) -> TrainingFacts:
    images = sum(row.images_per_second * row.seconds for row in trained.history)
    return TrainingFacts(
        rounds=len(trained.history),
        steps=trained.history[-1].steps,
        best_round=trained.best.round,
        best_validation_loss=trained.best.validation_loss,
        seconds=trained.seconds,
        images_per_second=images / sum(row.seconds for row in trained.history),
        train_images=sum(len(part.division.train) for part in parts),
        validation_images=sum(len(part.division.val) for part in parts),
        test_images=tested,
        split="+".join(part.division.digest([tile.name for tile in part.pack.tiles]) for part in parts),
    )
