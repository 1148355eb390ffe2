"""Training one network: optimiser, schedule, validation, early stopping, best weights."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from benchmark.config.protocol import Protocol, Training
from benchmark.data.batches import Batch, TrainingBatches
from benchmark.devices.cuda_graphs import Function
from benchmark.devices.launch import Launch
from benchmark.devices.precision import autocast
from benchmark.records.history import Round
from benchmark.records.weights import non_finite
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.loss import segmentation_loss

OnStep = Callable[[int, int], None]
OnRound = Callable[[Sequence[Round]], None]


class NonFiniteLossError(RuntimeError):
    """The loss, or a weight, became NaN or infinite; the run has no result."""


@dataclass(frozen=True)
class Trained:
    """The outcome of a training; the network holds the best weights.

    ``seconds`` counts all sessions of an interrupted training, ``earlier_seconds`` those before the last.
    """

    history: list[Round]
    best: Round
    seconds: float
    earlier_seconds: float = 0.0


@dataclass
class _Progress:
    """Where a training stands between two rounds, beside the states of network, optimiser and schedule."""

    steps: int
    history: list[Round]
    best: Round | None
    best_state: dict[str, Tensor]
    seconds: float


def train(
    network: nn.Module,
    batches: TrainingBatches,
    validation: Callable[[], Iterable[Batch]],
    protocol: Protocol,
    on_step: OnStep,
    checkpoint: Checkpoint | None = None,
    launch: Launch | None = None,
    on_round: OnRound = lambda history: None,
) -> Trained:
    """Train a network in place and leave the weights of the lowest validation loss in it.

    Args:
        network: on the batches' device.
        batches: training images of the run.
        validation: opens the validation batches anew; without any, the last weights are kept.
        protocol: all settings.
        on_step: called with (steps done, steps at most) after every optimiser step.
        checkpoint: where an earlier session of this training may have left off, and where this one leaves its state
            after its rounds.
        launch: how steps and validations are given to the device; eagerly by default.
        on_round: called with all rounds so far, an earlier session's first, and then after each.

    Raises:
        NonFiniteLossError: NaN or infinite training or validation loss, or weights.
    """
    settings = protocol.training
    total = settings.steps or settings.epochs * len(batches)
    interval = settings.validate_every or (total if settings.steps else len(batches))
    optimizer = _optimizer(network, settings)
    schedule = LambdaLR(
        optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / total)) if settings.schedule == "cosine" else 1.0
    )
    launch = launch or Launch(network, batches.device)

    def differentiate(images: Tensor, masks: Tensor, counted: Tensor | None) -> Tensor:
        return _differentiate(network, Batch(images, masks, counted), batches.micro_batch, protocol)

    def judge(images: Tensor, masks: Tensor, counted: Tensor | None) -> Tensor:
        return _judge(network, Batch(images, masks, counted), protocol)

    step, validate = launch.of(differentiate), launch.of(judge)
    session = time.perf_counter()
    at = _resume(checkpoint, network, optimizer, schedule)
    earlier = at.seconds
    stream = _endless(batches, at.steps)
    history, steps = at.history, at.steps
    on_round(history)
    while steps < total and not _patience_is_over(at, settings):
        started, images = time.perf_counter(), 0
        length = min(interval, total - steps)
        loss_sum = torch.zeros((), device=batches.device)
        lr = float(schedule.get_last_lr()[0])
        network.train()
        for _ in range(length):
            batch = next(stream)
            loss_sum += step(batch.images, batch.masks, batch.counted)
            optimizer.step()
            schedule.step()
            steps += 1
            images += len(batch.images)
            on_step(steps, total)
        train_loss = _finite(loss_sum / length, "training", steps)
        seconds = time.perf_counter() - started
        reestimate_norms(network, batches, protocol, len(history))
        validation_loss = _validate(network, validate, validation(), steps)
        history.append(Round(len(history) + 1, steps, train_loss, validation_loss, lr, seconds, images / seconds))
        on_round(history)
        if at.best is None or validation_loss is None or _improves(validation_loss, at.best, settings):
            at.best = history[-1]
            at.best_state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        at.steps, at.seconds = steps, earlier + time.perf_counter() - session
        if steps < total:
            _save(checkpoint, at, network, optimizer, schedule)
    assert at.best is not None  # total is at least 1
    network.zero_grad(set_to_none=True)  # a graph's gradients would keep the rest of its memory from others
    # Of the last step nobody has seen the loss, and some weights no loss sees.
    if unusable := non_finite(at.best_state, network):
        raise NonFiniteLossError(f"{unusable[0]} has values that are no number; try a lower --set training.lr")
    network.load_state_dict(at.best_state)
    return Trained(history, at.best, earlier + time.perf_counter() - session, earlier)


def _patience_is_over(at: _Progress, settings: Training) -> bool:
    return bool(settings.patience and at.best and at.history[-1].round - at.best.round >= settings.patience)


def _resume(
    checkpoint: Checkpoint | None, network: nn.Module, optimizer: torch.optim.Optimizer, schedule: LambdaLR
) -> _Progress:
    """Put everything into the state of the last checkpoint; without one, return the beginning."""
    state = checkpoint.load() if checkpoint else None
    if state is None:
        return _Progress(0, [], None, {}, 0.0)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    schedule.load_state_dict(state["schedule"])
    torch.set_rng_state(state["random"])
    if state["random_cuda"] is not None:
        torch.cuda.set_rng_state(state["random_cuda"], next(network.parameters()).device)
    history = [Round(**row) for row in state["history"]]
    return _Progress(state["steps"], history, Round(**state["best"]), state["best_state"], state["seconds"])


def _save(
    checkpoint: Checkpoint | None,
    at: _Progress,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    schedule: LambdaLR,
) -> None:
    """Write all that a training depends on, where that is worth its time: weights, moments, and Torch's random states.

    Order, crops and flips are drawn anew from the number of steps; there is no loss scaling, since bfloat16 needs none.
    """
    device = next(network.parameters()).device
    weights = sum(value.numel() * value.element_size() for value in network.state_dict().values())
    if checkpoint is None or not checkpoint.due(4 * weights):  # with Adam's two moments and the best weights
        return
    assert at.best is not None
    checkpoint.save(
        {
            "network": network.state_dict(),
            "optimizer": optimizer.state_dict(),
            "schedule": schedule.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
            "steps": at.steps,
            "history": [asdict(row) for row in at.history],
            "best": asdict(at.best),
            "best_state": at.best_state,
            "seconds": at.seconds,
        }
    )


def _improves(loss: float, best: Round, settings: Training) -> bool:
    assert best.validation_loss is not None
    return loss < best.validation_loss - settings.min_delta


def _optimizer(network: nn.Module, settings: Training) -> torch.optim.Optimizer:
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    # One kernel for all parameters: a loop over several hundred small ones takes a tenth of a light network's step.
    return kind(network.parameters(), lr=settings.lr, weight_decay=settings.weight_decay, fused=True)


def _endless(batches: TrainingBatches, taken: int = 0) -> Iterator[Batch]:
    """Yield epoch after epoch, going on behind the batches that an earlier session took."""
    epoch, within = divmod(taken, len(batches))
    yield from itertools.islice(batches.epoch(epoch), within, None)
    while True:
        epoch += 1
        yield from batches.epoch(epoch)


def _differentiate(network: nn.Module, batch: Batch, micro: int, protocol: Protocol) -> Tensor:
    """Leave the gradient of a batch's loss in the parameters and return the loss, all without synchronising.

    The gradient of the cross-entropy is that of the whole batch, however many pixels count in each part; Dice is formed
    per forward, as BatchNorm's statistics are, and weighted by images.

    Args:
        network: in training mode.
        batch: on the network's device.
        micro: images of one forward; there are as many as the batch needs.
        protocol: loss and number format.
    """
    network.zero_grad(set_to_none=True)
    size = len(batch.images)
    loss_sum = torch.zeros((), device=batch.images.device)
    for start in range(0, size, micro):
        part = batch.part(start, start + micro)
        with autocast(batch.images.device, protocol):
            logits = network(part.images)
        share = len(part.images) / size
        pixels = None if batch.counted is None else batch.counted.sum().clamp(min=1) * share
        loss = segmentation_loss(logits, part.masks, protocol.loss, part.counted, pixels) * share
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves Tensor.backward unannotated
        loss_sum += loss.detach()
    return loss_sum


def reestimate_norms(network: nn.Module, batches: TrainingBatches, protocol: Protocol, draw: int) -> None:
    """Replace BatchNorm's running averages by means over training batches, where the protocol asks for it.

    After a few dozen steps the running averages (momentum 0.1) still remember the initialisation. Unlike fvcore's and
    torch's own helpers, this leaves dropout off, as in the test that the statistics are for, and averages over all uses
    of a norm that several branches share, which fvcore refuses.
    """
    count = protocol.training.norm_reestimation_batches
    if count == 0:
        return

    def crops() -> Iterator[Tensor]:
        left, number = count, 0
        while True:
            for batch in batches.epoch(number, purpose=f"norms {draw}"):
                yield from torch.split(batch.images, batches.micro_batch)
                left -= 1
                if left == 0:
                    return
            number += 1

    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    network.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    with torch.no_grad(), autocast(batches.device, protocol):
        for images in crops():
            network(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _judge(network: nn.Module, batch: Batch, protocol: Protocol) -> Tensor:
    """Return the sum of the losses of a batch's images, without synchronising."""
    with autocast(batch.images.device, protocol):
        logits = network(batch.images)
    return segmentation_loss(logits, batch.masks, protocol.loss, batch.counted) * len(batch.images)


@torch.inference_mode()
def _validate(network: nn.Module, judge: Function, batches: Iterable[Batch], steps: int) -> float | None:
    network.eval()
    count = 0
    losses: list[Tensor] = []
    for batch in batches:
        losses.append(judge(batch.images, batch.masks, batch.counted).clone())  # a replay writes over it
        count += len(batch.images)
    if not losses:
        return None
    return _finite(torch.stack(losses).sum() / count, "validation", steps)


def _finite(loss: Tensor, which: str, steps: int) -> float:
    value = float(loss)
    if not math.isfinite(value):
        raise NonFiniteLossError(
            f"{which} loss is {value} within the first {steps} steps; try a lower --set training.lr"
        )
    return value
