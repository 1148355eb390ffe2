"""One run, from pack to record: train, test, write."""

from __future__ import annotations

import gc
import time
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from benchmark import environment, scoring, seeds
from benchmark.data.batches import TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack, open_pack
from benchmark.data.splits import Division
from benchmark.errors import UserError
from benchmark.evaluation import evaluate
from benchmark.jobs import OnStep, TrainJob
from benchmark.protocol import Protocol
from benchmark.records import Failure, FailureKind, Record, TrainingFacts
from benchmark.registry import ModelEntry
from benchmark.store import WEIGHTS, Store
from benchmark.training import NonFiniteLossError, Trained, compute_dtype, place, train


def execute(job: TrainJob, on_step: OnStep) -> Record:
    """Train and test one network and write its record.

    Args:
        job: the run.
        on_step: called with (steps done, steps at most).

    Raises:
        UserError: data or settings that do not fit.
        NonFiniteLossError: NaN or infinite loss.
    """
    torch.set_num_threads(job.threads)
    torch.use_deterministic_algorithms(job.protocol.deterministic)
    device = torch.device(job.device)
    pack = open_pack(job.source, job.protocol, job.cache)
    division = pack.divide(job.protocol)
    network = place(build(job.entry, job.protocol, pack.dataset, job.repeat), device)

    started = time.perf_counter()
    batches = TrainingBatches(pack, division.train, job.protocol, job.repeat, device)
    size = job.protocol.input.size_for(pack.dataset)
    torch.manual_seed(seeds.derive(job.protocol.seed, "dropout", pack.dataset, job.repeat))
    trained = train(
        network,
        batches,
        lambda: evaluation_batches(pack, division.val, size, job.protocol.evaluation.batch, device),
        job.protocol,
        on_step,
    )
    seconds = time.perf_counter() - started
    rows = evaluate(network, pack, division.test, job.source.target, job.protocol, device) if division.test else []
    record = job.record(
        status="ok",
        metrics={pack.dataset: scoring.summarise(rows)} if rows else {},
        training=_facts(trained, seconds, pack, division),
        environment={
            **environment.describe(job.device, job.threads),
            "compute_dtype": compute_dtype(device, job.protocol),
        },
    )
    weights = _weights(network) if _worth_keeping(job, record) else None
    images = {pack.dataset: scoring.to_csv(rows)} if rows else {}
    Store(job.study).write_run(record, images, trained.history, weights)
    del network, trained
    gc.collect()
    return record


def build(entry: ModelEntry, protocol: Protocol, dataset: str, repeat: int) -> nn.Module:
    """Construct a network from the seed of (base, dataset, repeat), on the CPU so that every device starts alike."""
    torch.manual_seed(seeds.derive(protocol.seed, "init", dataset, repeat))
    encoder: dict[str, Any] = {"encoder_weights": "imagenet"} if protocol.training.encoder_weights else {}
    try:
        return entry.build(in_channels=protocol.input.channels_for(dataset), **encoder)
    except TypeError as error:
        if encoder and "encoder_weights" in str(error):
            raise UserError(
                f"{entry.name}: has no pretrained encoder; use --set training.encoder_weights=none"
            ) from error
        raise


def classify(error: BaseException) -> FailureKind:
    """Return the kind of failure that an exception means."""
    if isinstance(error, NonFiniteLossError):
        return "nan_loss"
    # torch reports an exhausted host as a plain RuntimeError of its allocator.
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate" in str(error):
        return "out_of_memory"
    return "bad_input" if isinstance(error, UserError) else "error"


def failure(error: BaseException, log: str) -> Failure:
    """Describe an exception for a record."""
    return Failure(
        kind=classify(error),
        message=f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error),
        log=log,
    )


def _facts(trained: Trained, seconds: float, pack: Pack, division: Division) -> TrainingFacts:
    images = sum(row.images_per_second * row.seconds for row in trained.history)
    return TrainingFacts(
        epochs=len(trained.history),
        steps=trained.history[-1].steps,
        best_epoch=trained.best.epoch,
        best_validation_loss=trained.best.validation_loss,
        seconds=seconds,
        images_per_second=images / sum(row.seconds for row in trained.history),
        train_images=len(division.train),
        validation_images=len(division.val),
        test_images=len(division.test),
        split=division.digest([tile.name for tile in pack.tiles]),
    )


def _weights(network: nn.Module) -> bytes:
    return to_safetensors({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})


def _worth_keeping(job: TrainJob, record: Record) -> bool:
    """Decide on a run's weights; under ``best-repeat`` a better run removes those of its worse siblings."""
    if job.keep_weights != "best-repeat":
        return job.keep_weights == "all"
    store = Store(job.study)
    assert record.training is not None
    mine = record.training.best_validation_loss
    worse = []
    for repeat in range(job.protocol.repeats):
        other = store.read_record(record.train, record.model, repeat) if repeat != job.repeat else None
        if other is None or other.training is None:
            continue
        theirs = other.training.best_validation_loss
        if mine is not None and theirs is not None and theirs <= mine:
            return False
        worse.append(store.run_folder(record.train, record.model, repeat) / WEIGHTS)
    for file in worse:
        file.unlink(missing_ok=True)
    return True
