"""Trains one network with validation and early stopping and keeps its best weights."""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from benchmark.config.protocol import Protocol
from benchmark.config.training_settings import Training
from benchmark.data.batches import Batch, TrainingBatches
from benchmark.devices.cuda_graphs import Function
from benchmark.devices.launch_mode import Launch
from benchmark.devices.precision import autocast
from benchmark.records.history import Round
from benchmark.records.weights import non_finite
from benchmark.training.averaged_weights import AveragedWeights
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.losses import loss_of_layers
from benchmark.training.optimizer import clip_gradients, load_optimizer, make_optimizer, make_schedule

OnStep = Callable[[int, int], None]
OnRound = Callable[[Sequence[Round]], None]


class NonFiniteLossError(RuntimeError):
    """The loss or a weight is NaN or infinite; the run has no result."""


@dataclass(frozen=True)
class TrainingResult:
    """The result of a training: ``seconds`` of all sessions, ``earlier_seconds`` of those before the last."""

    history: list[Round]
    best: Round
    seconds: float
    earlier_seconds: float = 0.0


@dataclass
class _State:
    """The parts of a training that every step changes."""

    network: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: LambdaLR
    average: AveragedWeights | None = None


@dataclass
class _Progress:
    """The course of a training up to a round."""

    steps: int = 0
    history: list[Round] = field(default_factory=list)
    best: Round | None = None
    best_state: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0

    def patience_is_over(self, settings: Training) -> bool:
        """Return whether too many validations have passed without an improvement."""
        return bool(settings.patience and self.best and self.history[-1].round - self.best.round >= settings.patience)

    def improves(self, loss: float | None, settings: Training) -> bool:
        """Return whether a validation loss is the lowest; without validation, the last weights are the best."""
        if loss is None or self.best is None or self.best.validation_loss is None:
            return True
        return loss < self.best.validation_loss - settings.min_delta


def train(
    network: nn.Module,
    batches: TrainingBatches,
    validation: Callable[[], Iterable[Batch]],
    protocol: Protocol,
    on_step: OnStep,
    checkpoint: Checkpoint | None = None,
    launch: Launch | None = None,
    on_round: OnRound = lambda history: None,
) -> TrainingResult:
    """Train a network in place and load its weights of the lowest validation loss.

    Args:
        network: on the batches' device.
        batches: training images of the run.
        validation: returns the validation batches anew; without batches, the last weights are kept.
        protocol: all settings.
        on_step: called with (steps done, steps at most) after every optimiser step.
        checkpoint: file of the state, read at the start and replaced after rounds.
        launch: runs steps and validations on the device; eagerly by default.
        on_round: called with all rounds so far: first those of earlier sessions, then after each round.

    Raises:
        NonFiniteLossError: training loss, validation loss or weights are NaN or infinite.
    """
    settings = protocol.training
    total = settings.steps or settings.epochs * len(batches)
    interval = settings.validate_every or (total if settings.steps else len(batches))
    launch = launch or Launch(network, batches.device)
    optimizer = make_optimizer(network, settings, captured=launch.mode == "graph")
    state = _State(network, optimizer, make_schedule(optimizer, settings, total))
    if settings.ema is not None:
        state.average = AveragedWeights(network, settings.ema)

    def train_on_batch(images: Tensor, masks: Tensor, counted: Tensor | None) -> Tensor:
        loss = training_step(network, Batch(images, masks, counted), batches, protocol)
        clip_gradients(network, settings)
        optimizer.step()
        return loss

    def validate_on_batch(images: Tensor, masks: Tensor, counted: Tensor | None) -> Tensor:
        return validation_step(network, Batch(images, masks, counted), batches.layers, protocol)

    launched_training_step, launched_validation_step = launch.of(train_on_batch), launch.of(validate_on_batch)
    session = time.perf_counter()
    progress = _resume(checkpoint, state)
    earlier, history, steps = progress.seconds, progress.history, progress.steps
    stream = _endless(batches, steps)
    on_round(history)
    while steps < total and not progress.patience_is_over(settings):
        started, images = time.perf_counter(), 0
        length = min(interval, total - steps)
        loss_sum = torch.zeros((), device=batches.device)
        lr = float(state.schedule.get_last_lr()[0])
        network.train()
        for _ in range(length):
            batch = next(stream)
            loss_sum += launched_training_step(batch.images, batch.masks, batch.counted)
            state.schedule.step()
            steps += 1
            if state.average is not None:  # outside a graph, which would hold the decay of one step
                state.average.update(steps)
            images += len(batch.images)
            on_step(steps, total)
        train_loss = _finite(loss_sum / length, "training", steps)
        seconds = time.perf_counter() - started
        with contextlib.nullcontext() if state.average is None else state.average.in_network():
            reestimate_norms(network, batches, protocol, len(history))
            validation_loss = validate(network, launched_validation_step, validation(), steps)
            history.append(Round(len(history) + 1, steps, train_loss, validation_loss, lr, seconds, images / seconds))
            on_round(history)
            if progress.improves(validation_loss, settings):
                progress.best = history[-1]
                progress.best_state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        progress.steps, progress.seconds = steps, earlier + time.perf_counter() - session
        if checkpoint is not None and steps < total:
            _save(checkpoint, progress, state)
    assert progress.best is not None  # total is at least 1
    network.zero_grad(set_to_none=True)  # a graph's gradients would hold all of its memory
    # The loss after the last step is unknown, and some weights do not affect the loss.
    if unusable := non_finite(progress.best_state, network):
        raise NonFiniteLossError(f"{unusable[0]} has values that are no number; try a lower --set training.lr")
    network.load_state_dict(progress.best_state)
    return TrainingResult(history, progress.best, earlier + time.perf_counter() - session, earlier)


def _resume(checkpoint: Checkpoint | None, state: _State) -> _Progress:
    """Load the last checkpoint; without a checkpoint, start at the beginning."""
    saved = checkpoint.load() if checkpoint else None
    if saved is None:
        return _Progress()
    state.network.load_state_dict(saved["network"])
    load_optimizer(state.optimizer, state.schedule, saved)
    if state.average is not None:
        state.average.load(saved["average"])
    torch.set_rng_state(saved["random"])
    if saved["random_cuda"] is not None:
        torch.cuda.set_rng_state(saved["random_cuda"], next(state.network.parameters()).device)
    history = [Round(**row) for row in saved["history"]]
    return _Progress(saved["steps"], history, Round(**saved["best"]), saved["best_state"], saved["seconds"])


def _save(checkpoint: Checkpoint, progress: _Progress, state: _State) -> None:
    """Write weights, moments and random states, if that is worth its time.

    Order, crops and flips derive from the number of steps; there is no loss scaling, since bfloat16 needs none.
    """
    device = next(state.network.parameters()).device
    weights = sum(value.numel() * value.element_size() for value in state.network.state_dict().values())
    if not checkpoint.due((4 + (state.average is not None)) * weights):  # with Adam's two moments and the best weights
        return
    assert progress.best is not None
    checkpoint.save(
        {
            "network": state.network.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "schedule": state.schedule.state_dict(),
            "average": state.average and state.average.averages,
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            **asdict(replace(progress, best_state={})),
            "best_state": progress.best_state,
        }
    )


def _endless(batches: TrainingBatches, taken: int = 0) -> Iterator[Batch]:
    """Yield the batches of all epochs after those that an earlier session has taken."""
    first, within = divmod(taken, len(batches))
    yield from itertools.islice(batches.epoch(first), within, None)
    for epoch in itertools.count(first + 1):
        yield from batches.epoch(epoch)


def training_step(network: nn.Module, batch: Batch, batches: TrainingBatches, protocol: Protocol) -> Tensor:
    """Compute a batch's loss and the parameters' gradients without synchronising.

    The cross-entropy of the whole batch does not depend on the images per forward. Dice is computed per forward, as
    BatchNorm's statistics are, and weighted by images.
    """
    micro, layers = batches.micro_batch, batches.layers
    network.zero_grad(set_to_none=True)
    size = len(batch.images)
    loss_sum = torch.zeros((), device=batch.images.device)
    for start in range(0, size, micro):
        part = batch.part(start, start + micro)
        with autocast(batch.images.device, protocol):
            logits = network(part.images)
        share = len(part.images) / size
        pixels = None
        if batch.counted is not None:
            pixels = [batch.counted[:, index].sum().clamp(min=1) * share for index in range(len(layers))]
        loss = loss_of_layers(logits, part, layers, protocol.loss, pixels) * share
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
        loss_sum += loss.detach()
    return loss_sum


def reestimate_norms(network: nn.Module, batches: TrainingBatches, protocol: Protocol, draw: int) -> None:
    """Replace BatchNorm's running averages by means over training batches, if the protocol says so.

    After a few dozen steps the running averages (momentum 0.1) still depend on the initialisation. In contrast to the
    functions of fvcore and torch, dropout is off, as in the test, and a norm that several branches share is averaged
    over all its uses.
    """
    count = protocol.training.norm_reestimation_batches
    if count == 0:
        return

    epochs = (batches.epoch(number, purpose=f"norms {draw}") for number in itertools.count())
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    with torch.no_grad(), autocast(batches.device, protocol):
        for batch in itertools.islice(itertools.chain.from_iterable(epochs), count):
            for images in torch.split(batch.images, batches.micro_batch):
                network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def validation_step(network: nn.Module, batch: Batch, layers: Sequence[str], protocol: Protocol) -> Tensor:
    """Return the sum of the losses of a batch's images, without synchronising."""
    with autocast(batch.images.device, protocol):
        logits = network(batch.images)
    return loss_of_layers(logits, batch, layers, protocol.loss) * len(batch.images)


@torch.inference_mode()
def validate(network: nn.Module, step: Function, batches: Iterable[Batch], steps: int) -> float | None:
    """Return the mean loss of the validation images, or ``None`` without images."""
    network.eval()
    count = 0
    losses: list[Tensor] = []
    for batch in batches:
        losses.append(step(batch.images, batch.masks, batch.counted).clone())  # the next replay overwrites it
        count += len(batch.images)
    if not losses:
        return None
    return _finite(torch.stack(losses).sum() / count, "validation", steps)


def _finite(loss: Tensor, phase: Literal["training", "validation"], steps: int) -> float:
    """Return a loss as a number; raise :class:`NonFiniteLossError` if it is NaN or infinite."""
    value = float(loss)
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"{phase} loss is {value} within the first {steps} steps; try a lower --set training.lr"
        )
    return value
