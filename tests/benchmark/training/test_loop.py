"""Training: exact steps, best weights, early stopping, mixed batches, honest failures."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.config.training_settings import Loss
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices import facts, precision
from benchmark.training import loop
from benchmark.training.losses import segmentation_loss
from tests.benchmark.conftest import SMALL
from tests.benchmark.tiny import NotANumber, TinyNet

CPU = torch.device("cpu")


def with_settings(*overrides: str) -> Protocol:
    return load_protocol("quick", [*SMALL, *overrides])


def batches(pack: Pack, protocol: Protocol, repeat: int = 0) -> TrainingBatches:
    return TrainingBatches([(pack, pack.divide(protocol).train)], 32, protocol, repeat, CPU)


def tiny(seed: int = 0) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet()


def validation(pack: Pack, protocol: Protocol) -> Iterator[Batch]:
    return evaluation_batches(pack, pack.divide(protocol).val, 32, 2, CPU)


def train(network: nn.Module, pack: Pack, protocol: Protocol) -> loop.TrainingResult:
    return loop.train(network, batches(pack, protocol), lambda: validation(pack, protocol), protocol, lambda *_: None)


def test_it_takes_exactly_the_steps_and_validates_when_told(pack: Pack) -> None:
    seen: list[tuple[int, int]] = []
    protocol = with_settings("training.steps=7", "training.validate_every=3")
    trained = loop.train(
        tiny(), batches(pack, protocol), lambda: validation(pack, protocol), protocol, lambda *at: seen.append(at)
    )
    assert seen == [(step, 7) for step in range(1, 8)]
    assert [(row.round, row.steps) for row in trained.history] == [(1, 3), (2, 6), (3, 7)]


def test_epoch_is_one_pass_over_the_training_images(pack: Pack) -> None:
    protocol = with_settings("training.steps=none", "training.epochs=2", "training.validate_every=none")
    # 6 images in batches of 4: two steps per epoch.
    assert [row.steps for row in train(tiny(), pack, protocol).history] == [2, 4]


def test_training_lowers_the_loss(pack: Pack) -> None:
    trained = train(tiny(), pack, with_settings("training.steps=60", "training.validate_every=20", "training.lr=0.02"))
    assert trained.history[-1].train_loss < 0.8 * trained.history[0].train_loss


def test_best_weights_are_kept_not_the_last(pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    losses, weights = iter([0.5, 0.2, 0.4]), []

    def scripted(network: nn.Module, *_: object) -> float:
        weights.append(copy.deepcopy(network.state_dict()))
        return next(losses)

    monkeypatch.setattr(loop, "validate", scripted)
    network = tiny()
    trained = train(network, pack, with_settings("training.steps=6", "training.validate_every=2"))
    assert trained.best.round == 2
    assert all(torch.equal(value, weights[1][name]) for name, value in network.state_dict().items())
    assert not torch.equal(network.head.weight, weights[2]["head.weight"])


@pytest.mark.parametrize(
    ("script", "rounds"),
    [([0.5, 0.4, 0.4, 0.4], 4), ([0.5, 0.5 - 5e-8, 0.5 - 9e-8], 3), ([0.5, 0.6, 0.4, 0.5, 0.5], 5)],
)
def test_it_stops_after_patience_rounds_without_a_fall_of_min_delta(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, script: list[float], rounds: int
) -> None:
    losses = iter(script)
    monkeypatch.setattr(loop, "validate", lambda *_: next(losses))
    trained = train(tiny(), pack, with_settings("training.steps=99", "training.patience=2"))
    assert len(trained.history) == rounds


def test_without_validation_images_the_last_weights_are_kept(pack: Pack) -> None:
    protocol = with_settings()
    trained = loop.train(tiny(), batches(pack, protocol), lambda: iter(()), protocol, lambda *_: None)
    assert trained.best is trained.history[-1]
    assert trained.best.validation_loss is None


def test_loss_that_is_not_a_number_is_its_own_error(pack: Pack) -> None:
    with pytest.raises(loop.NonFiniteLossError, match="training loss is nan within the first 2 steps"):
        train(NotANumber(), pack, with_settings())


def test_weights_that_the_last_step_spoilt_end_the_training(pack: Pack) -> None:
    protocol = with_settings("training.steps=1", "training.validate_every=none", "training.lr=1e39")
    with pytest.raises(loop.NonFiniteLossError, match=r"features\.weight has values that are no number; try a"):
        loop.train(tiny(), batches(pack, protocol), lambda: iter(()), protocol, lambda *_: None)


def test_cosine_falls_from_lr_to_zero(pack: Pack) -> None:
    steps = ("training.steps=4", "training.warmup=0", "training.validate_every=1")
    protocol = with_settings("training.schedule=cosine", *steps)
    result = [row.lr for row in train(tiny(), pack, protocol).history]
    expected = [2e-3 * 0.5 * (1 + torch.cos(torch.tensor(torch.pi * step / 4))).item() for step in range(4)]
    assert result == pytest.approx(expected, rel=1e-6)


def test_averaged_weights_are_validated_and_kept_and_the_training_goes_on_with_its_own(
    pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    validated: list[dict[str, torch.Tensor]] = []
    monkeypatch.setattr(loop, "validate", lambda network, *_: validated.append(copy.deepcopy(network.state_dict())))
    plain, averaged = tiny(), tiny()
    steps = ("training.steps=6", "training.validate_every=2", "training.norm_reestimation_batches=0")
    rounds = [
        train(network, pack, with_settings(*steps, *more))
        for network, more in ((plain, ()), (averaged, ["training.ema=0.9"]))
    ]
    assert [row.train_loss for row in rounds[0].history] == [row.train_loss for row in rounds[1].history]
    weights = [state["head.weight"] for state in validated]
    assert all(not torch.equal(own, average) for own, average in zip(weights[:3], weights[3:], strict=True))
    assert torch.equal(averaged.head.weight, weights[5])


def plain_network() -> nn.Module:
    """Without BatchNorm, which couples the images of a batch."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 1, 1)).double()


def gradients(pack: Pack, batch: Batch, micro: int, *overrides: str) -> tuple[float, list[torch.Tensor]]:
    """Return the loss of a batch and its gradients in float64."""
    protocol = with_settings("training.batch=8", f"training.micro_batch={micro}", *overrides)
    network = plain_network()
    for _ in range(2):  # of the first, nothing is left
        loss = loop.training_step(network, batch, batches(pack, protocol), protocol)
    return float(loss), [parameter.grad for parameter in network.parameters() if parameter.grad is not None]


def batch_of_eight(ignored: bool) -> Batch:
    """In which every image has another number of pixels that count, one of them none."""
    rng = torch.Generator().manual_seed(1)
    images = torch.rand((8, 1, 16, 16), generator=rng, dtype=torch.float64)
    masks = (torch.rand((8, 1, 16, 16), generator=rng) < 0.4).float()
    shares = torch.tensor([0.0, 1.0, 0.3, 0.9, 0.1, 0.6, 1.0, 0.05])[:, None, None, None]
    counted = (torch.rand((8, 1, 16, 16), generator=rng) < shares).float()
    return Batch(images, masks, counted if ignored else None)


@pytest.mark.parametrize("micro", [1, 2, 3])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(
    "mean",
    [
        ["loss.dice=0"],
        ["loss.name=focal", "loss.focal_gamma=1"],
        ["loss.name=scnp", "loss.scnp_inside=focal", "loss.focal_gamma=1"],
    ],
    ids=str,
)
def test_micro_batches_accumulate_the_gradient_of_the_whole_batch(
    pack: Pack, micro: int, ignored: bool, mean: list[str]
) -> None:
    batch = batch_of_eight(ignored)
    loss, result = gradients(pack, batch, micro, *mean)
    expected_loss, expected = gradients(pack, batch, 8, *mean)
    assert loss == pytest.approx(expected_loss, abs=1e-6)
    assert len(result) == len(expected) == 4
    for one, other in zip(result, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        assert float(other.abs().max()) > 1e-3


def test_gradient_of_a_whole_batch_is_that_of_its_mean_over_pixels_that_count(pack: Pack) -> None:
    batch, network = replace(batch_of_eight(ignored=True), counted=torch.zeros((8, 1, 16, 16))), plain_network()
    assert batch.counted is not None
    batch.counted[[1, 3], 0, 5, 7] = 1  # so few that parts of the batch have less than one pixel on average
    kept = batch.counted.bool()
    torch.nn.functional.binary_cross_entropy_with_logits(
        network(batch.images)[kept], batch.masks.double()[kept]
    ).backward()
    _, result = gradients(pack, batch, 2, "loss.dice=0", "loss.bce=1")
    for one, parameter in zip(result, network.parameters(), strict=True):
        torch.testing.assert_close(one, parameter.grad, rtol=0, atol=1e-6)


def test_dice_is_of_each_forward_weighted_by_images(pack: Pack) -> None:
    batch = batch_of_eight(ignored=True)
    loss, _ = gradients(pack, batch, 3, "loss.bce=0", "loss.dice=1")
    settings, network = Loss(bce=0, dice=1), plain_network()
    parts = [batch.part(0, 3), batch.part(3, 6), batch.part(6, 8)]
    with torch.no_grad():
        by_hand = [
            float(segmentation_loss(network(part.images), part.masks, settings, part.counted)) * len(part.images)
            for part in parts
        ]
    assert loss == pytest.approx(sum(by_hand) / 8, abs=1e-6)
    assert loss != pytest.approx(gradients(pack, batch, 8, "loss.bce=0", "loss.dice=1")[0], abs=1e-6)


def test_validation_loss_is_the_mean_over_images_not_over_batches(pack: Pack) -> None:
    protocol, batch, network = with_settings("loss.dice=0"), batch_of_eight(ignored=False), plain_network()

    def step(*tensors: torch.Tensor) -> torch.Tensor:
        return loop.validation_step(network, Batch(*tensors), ("track",), protocol)

    expected = segmentation_loss(network(batch.images), batch.masks, protocol.loss).item()
    assert loop.validate(network, step, [batch.part(0, 3), batch.part(3, 8)], 1) == pytest.approx(expected)


def test_norm_statistics_become_the_mean_over_training_batches(pack: Pack) -> None:
    protocol = with_settings("training.norm_reestimation_batches=2")
    network, source = tiny(), batches(pack, protocol)
    loop.reestimate_norms(network, source, protocol, 0)
    features = [network.features(batch.images) for batch in source.epoch(0, purpose="norms 0")]
    expected = torch.stack([f.mean(dim=(0, 2, 3)) for f in features[:2]]).mean(dim=0)
    torch.testing.assert_close(network.norm.running_mean, expected)


def test_norm_used_three_times_averages_over_its_uses(pack: Pack) -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(x) + self.norm(x + 1) + self.norm(x + 5)

    protocol = with_settings("training.norm_reestimation_batches=1")
    network, source = Shared(), batches(pack, protocol)
    loop.reestimate_norms(network, source, protocol, 0)
    images = next(source.epoch(0, purpose="norms 0")).images
    torch.testing.assert_close(network.norm.running_mean, images.mean().reshape(1) + 2)


def test_repeats_with_the_same_seeds_are_identical(pack: Pack) -> None:
    first, again = tiny(), tiny()
    histories = [
        [(row.train_loss, row.validation_loss) for row in train(network, pack, with_settings()).history]
        for network in (first, again)
    ]
    assert histories[0] == histories[1]
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))


def test_norm_statistics_are_those_of_the_network_as_it_is_tested_without_dropout(pack: Pack) -> None:
    protocol = with_settings("training.norm_reestimation_batches=1")
    network, source = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(1)), batches(pack, protocol)
    loop.reestimate_norms(network, source, protocol, 0)
    images = next(source.epoch(0, purpose="norms 0")).images
    torch.testing.assert_close(network[1].running_mean, images.mean().reshape(1))
    assert network[1].momentum == 0.1
    assert not network[0].training


@pytest.mark.parametrize(("native", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_cpu_computes_in_bfloat16_only_where_asked_for_and_native(
    pack: Pack, monkeypatch: pytest.MonkeyPatch, native: bool, expected: torch.dtype
) -> None:
    monkeypatch.setattr(facts, "cpu_has_bfloat16", lambda: native)
    image = next(batches(pack, with_settings()).epoch(0)).images
    with precision.autocast(CPU, with_settings("training.mixed_precision=bfloat16")):
        assert tiny()(image).dtype == expected
    with precision.autocast(CPU, with_settings("training.mixed_precision=off")):
        assert tiny()(image).dtype == torch.float32


@pytest.mark.gpu
def test_mixed_precision_trains_on_a_gpu(pack: Pack) -> None:
    protocol = with_settings("training.mixed_precision=bfloat16")
    device = torch.device("cuda")
    division = pack.divide(protocol)
    source = TrainingBatches([(pack, division.train)], 32, protocol, 0, device)
    network = tiny().to(device)
    trained = loop.train(
        network, source, lambda: evaluation_batches(pack, division.val, 32, 2, device), protocol, lambda *_: None
    )
    assert trained.history[-1].steps == 4
    with precision.autocast(device, protocol):
        assert network(next(source.epoch(0)).images).dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("protocol", "device", "native", "expected"),
    [
        (["quick"], "cpu", True, "bfloat16"),
        (["quick"], "cpu", False, "float32"),
        (["quick", "input.size=128"], "cpu", True, "float32"),
        (["quick", "input.size_by_dataset={omc=128}"], "cpu", True, "float32"),
        (["strict"], "cpu", True, "float32"),
        (["strict"], "cuda", True, "bfloat16"),
        (["strict"], "cuda", False, "float32"),
        (["paper"], "cuda", True, "float32"),
    ],
)
def test_bfloat16_is_used_where_it_is_asked_for_native_and_right(
    monkeypatch: pytest.MonkeyPatch, protocol: list[str], device: str, native: bool, expected: str
) -> None:
    monkeypatch.setattr(facts, "cpu_has_bfloat16", lambda: native)
    gpu = SimpleNamespace(major=9 if native else 7)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert precision.compute_dtype(torch.device(device), load_protocol(protocol[0], protocol[1:])) == expected
