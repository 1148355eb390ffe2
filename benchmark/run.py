"""One run, from pack to record: train, test, write."""

from __future__ import annotations

import contextlib
import errno
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as to_safetensors
from torch import nn

from benchmark import determinism, environment, initial, logs, network_files, panels, probing, registry, scoring, seeds
from benchmark.checkpoints import Checkpoint
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches, labelled_windows
from benchmark.data.datasets import Source
from benchmark.data.packs import Pack, open_pack
from benchmark.data.splits import Division
from benchmark.device_errors import broke_the_device, may_lack_memory, ran_out_of_memory
from benchmark.efficiency.resident import keeping_freed_memory
from benchmark.errors import UserError
from benchmark.evaluation import evaluate
from benchmark.jobs import OnStep, TrainJob
from benchmark.launching import Launch
from benchmark.metering import Meter
from benchmark.protocol import Protocol
from benchmark.records import BOUNDED, Failure, FailureKind, Record, TrainingFacts
from benchmark.registry import ModelEntry
from benchmark.scoring import Row
from benchmark.store import CHECKPOINT, Store
from benchmark.trackers import Tracker
from benchmark.training import NonFiniteLossError, Round, Trained, autocast, compute_dtype, place, train

#: What a run's log says when the first training step is done.
FIRST_STEP = "first training step done"


def attempt(job: TrainJob, on_step: OnStep) -> Record | Failure:
    """Execute a run; where that fails, write down why and return it."""
    print(f"{job.label}: on {job.device} with {job.threads} thread(s)", flush=True)  # into the run's log
    try:
        return execute(job, on_step)
    except (BrokenPipeError, ConnectionResetError):
        raise  # there is nobody left to report to
    except Exception as error:  # a user's network may do anything
        traceback.print_exc()  # into the run's log
        found = failure(error, job.memory_advice, job.entry, job.log.relative_to(job.study))
        with contextlib.suppress(UserError):  # a full disk takes no record either; the summary still says it
            facts = job.environment(**environment.computing(job.device))
            Store(job.study).write_run(job.record(status="failed", failure=found, environment=facts), {}, [], None)
        return found


def execute(job: TrainJob, on_step: OnStep) -> Record:
    """Train and test one network and write its record.

    Args:
        job: the run.
        on_step: called with (steps done, steps at most).

    Raises:
        UserError: data or settings that do not fit.
        NonFiniteLossError: NaN or infinite loss.
        NotDeterministicError: an operation without a deterministic kernel, where the protocol allows no other.
    """
    with (
        determinism.kernels(job.protocol.determinism),
        keeping_freed_memory(),
        Tracker(job.tracker, job.folder) as tracker,
    ):
        return _execute(job, on_step, tracker)


def _execute(job: TrainJob, on_step: OnStep, tracker: Tracker) -> Record:
    torch.set_num_threads(job.threads)
    device = torch.device(job.device)
    meter = Meter(device)
    parts = {source.name: _open(source, job) for source in job.task.sources}
    taught = [parts[name] for name in job.task.train_names]
    network = place(build(job), device)
    network_code = registry.unchanged_code(job.entry, job.key_parts.model)
    size, channels = job.task.input_size(job.protocol), job.task.channels(job.protocol)
    operations = determinism.nondeterministic_operations(network, job.entry.multiple, size, channels, job.protocol)

    training_images = [(part.pack, part.division.train) for part in taught]
    batches = TrainingBatches(training_images, size, job.protocol, job.repeat, device)
    torch.manual_seed(seeds.derive(job.protocol.seed, "dropout", job.task.name, job.repeat))
    checkpoint = Checkpoint(job.folder / CHECKPOINT, job.key)
    launch = Launch(network, device, job.execution)
    started = time.perf_counter()

    def validation() -> Iterator[Batch]:
        return _validation(taught, size, job.protocol, device)

    def stepped(done: int, total: int) -> None:
        if done == 1:
            print(f"{FIRST_STEP} after {time.perf_counter() - started:.1f} s", flush=True)
        on_step(done, total)

    bounded: list[bool] = []  # of a user's network, after the first round of this session

    def round_done(history: Sequence[Round]) -> None:
        tracker.rounds(history)
        if history and not bounded and job.entry.family == "user":
            bounded.append(_in_unit_interval(network, validation(), job.protocol, device))

    trained = train(network, batches, validation, job.protocol, stepped, checkpoint, launch, round_done)
    started = time.perf_counter()
    keepers = {
        name: panels.Keeper(parts[name].pack, parts[name].division.test, job.protocol) for name in job.task.test_names
    }
    rows = {name: _test(network, parts[name], job.protocol, device, keeper, launch) for name, keeper in keepers.items()}
    rows = {name: tested for name, tested in rows.items() if tested}  # a dataset may have no test images
    cost = meter.cost(test_seconds=time.perf_counter() - started, earlier_seconds=trained.earlier_seconds)
    record = job.record(
        status="ok",
        metrics={name: scoring.summarise(tested) for name, tested in rows.items()},
        training=_facts(trained, taught, sum(map(len, rows.values()))),
        cost=cost,
        environment=job.environment(
            **environment.computing(job.device),
            compute_dtype=compute_dtype(device, job.protocol),
            nondeterministic_operations=operations,
            **({"network_code": network_code} if network_code else {}),
            **({BOUNDED: True} if any(bounded) else {}),
            **launch.facts(),
        ),
    )
    weights = None if job.keep_weights == "none" else _weights(network)
    images = {name: scoring.to_csv(tested) for name, tested in rows.items()}
    store = Store(job.study)
    shown = {name: content for name, keeper in keepers.items() if (content := keeper.content()) is not None}
    store.write_run(record, images, trained.history, weights, shown)
    tracker.result(record, job.protocol, trained.best.steps)
    if job.keep_weights == "best-repeat":
        with contextlib.suppress(UserError, OSError):  # another repeat's broken record takes nothing from this run's
            store.keep_best_weights(record.train, record.model)
    return record


@dataclass(frozen=True)
class _Part:
    """One dataset of a run, opened."""

    source: Source
    pack: Pack
    division: Division


def _open(source: Source, job: TrainJob) -> _Part:
    pack = open_pack(source, job.protocol, job.cache)
    return _Part(source, pack, pack.divide(job.protocol))


def _validation(parts: Sequence[_Part], size: int, protocol: Protocol, device: torch.device) -> Iterator[Batch]:
    for part in parts:
        chosen = labelled_windows(part.pack, part.division.val, size, protocol.split.min_labelled)
        yield from evaluation_batches(part.pack, chosen, size, protocol.evaluation.batch, device)


def _in_unit_interval(network: nn.Module, batches: Iterator[Batch], protocol: Protocol, device: torch.device) -> bool:
    """Tell whether all outputs for a batch lie in [0, 1]; random states and weights stay as they are."""
    batch = next(batches, None)
    if batch is None:
        return False
    network.eval()
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices), torch.no_grad(), autocast(device, protocol):
        outputs = network(batch.images)
    return bool(((outputs >= 0) & (outputs <= 1)).all())


def _test(
    network: nn.Module,
    part: _Part,
    protocol: Protocol,
    device: torch.device,
    keeper: panels.Keeper,
    launch: Launch,
) -> list[Row]:
    return evaluate(network, part.pack, part.division.test, part.source.target, protocol, device, keeper, launch)


def build(job: TrainJob) -> nn.Module:
    """Construct a network from the seed of (base, datasets, repeat), on the CPU so that every device starts alike.

    Where the run is to start from other weights, they replace all that was drawn.
    """
    protocol = job.protocol
    torch.manual_seed(seeds.derive(protocol.seed, "init", job.task.name, job.repeat))
    encoder: dict[str, Any] = {"encoder_weights": "imagenet"} if protocol.training.encoder_weights else {}
    try:
        network = job.entry.build(in_channels=job.task.channels(protocol), **encoder)
    except TypeError as error:
        if encoder and "encoder_weights" in str(error):
            raise UserError(
                f"{job.entry.name}: has no pretrained encoder; use --set training.encoder_weights=none"
            ) from error
        raise
    if job.init is not None:
        initial.load(network, job.init)
    return network


def classify(error: BaseException) -> FailureKind:
    """Return the kind of failure that an exception means."""
    if isinstance(error, NonFiniteLossError):
        return "nan_loss"
    if isinstance(error, determinism.NotDeterministicError):
        return "not_deterministic"
    # "... not implemented for 'Half'": the device has no kernel for a number format.
    if isinstance(error, NotImplementedError) or " not implemented for '" in str(error):
        return "unsupported"
    if ran_out_of_memory(error):
        return "out_of_memory"
    if broke_the_device(error):
        return "cuda_error"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk_full"
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return "out_of_memory"
        cause = cause.__cause__
    return "bad_input" if isinstance(error, UserError) else "error"


def failure(
    error: BaseException, memory_advice: str = "", entry: ModelEntry | None = None, log: Path | None = None
) -> Failure:
    """Describe an exception for a record.

    Args:
        error: what was raised.
        memory_advice: what is told where memory ran out.
        entry: the network at work: of a user's, the file and line are told.
        log: where the whole stack stands.
    """
    kind = classify(error)
    message = f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error)
    if kind == "out_of_memory" and memory_advice:
        message = f"out of memory; {memory_advice} ({message})"
    elif kind == "cuda_error" and memory_advice and may_lack_memory(error):
        message = f"{message}; often memory has run out: {memory_advice}"
    if probing.ONE_VALUE in message:
        message = f"{message}; {probing.one_value_advice()}"
    if kind in ("error", "unsupported"):
        where = network_files.place(error, registry.code(entry)) if entry else ""
        told = [f"raised in {where}"] * bool(where) + ([f"the whole stack is in {log.as_posix()}"] if log else [])
        message += f" ({'; '.join(told)})" if told else ""
    return Failure(
        kind=kind,
        message=message,
        log=logs.quoted("".join(traceback.format_exception(error))),
    )


def _facts(trained: Trained, taught: Sequence[_Part], tested: int) -> TrainingFacts:
    images = sum(row.images_per_second * row.seconds for row in trained.history)
    return TrainingFacts(
        rounds=len(trained.history),
        steps=trained.history[-1].steps,
        best_round=trained.best.round,
        best_validation_loss=trained.best.validation_loss,
        seconds=trained.seconds,
        images_per_second=images / sum(row.seconds for row in trained.history),
        train_images=sum(len(part.division.train) for part in taught),
        validation_images=sum(len(part.division.val) for part in taught),
        test_images=tested,
        split="+".join(part.division.digest([tile.name for tile in part.pack.tiles]) for part in taught),
    )


def _weights(network: nn.Module) -> bytes:
    return to_safetensors({name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()})
