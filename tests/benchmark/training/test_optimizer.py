from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmark.config.training_settings import Training
from benchmark.training.averaged_weights import AveragedWeights
from benchmark.training.optimizer import clip_gradients, load_optimizer, make_optimizer, make_schedule


def rates(settings: Training, total: int) -> list[float]:
    """Return the learning rate of every step."""
    optimizer = make_optimizer(nn.Linear(1, 1), settings)
    schedule = make_schedule(optimizer, settings, total)
    result = []
    for _ in range(total):
        result.append(float(schedule.get_last_lr()[0]))
        optimizer.step()
        schedule.step()
    return result


def test_poly_falls_from_lr_to_zero() -> None:
    result = rates(Training(lr=0.5, schedule="poly", poly_power=2.0), 5)
    assert result == pytest.approx([0.5 * (1 - step / 5) ** 2 for step in range(5)])


@pytest.mark.parametrize("schedule", ["constant", "cosine", "poly"])
def test_warmup_rises_linearly_and_the_schedule_takes_the_steps_that_are_left(schedule: str) -> None:
    result = rates(Training.model_validate({"lr": 0.8, "schedule": schedule, "warmup": 0.25}), 12)
    assert result[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert result[3:] == pytest.approx(rates(Training.model_validate({"lr": 0.8, "schedule": schedule}), 9))


@pytest.mark.parametrize(("share", "first"), [(0.001, 0.5), (0.999, 1 / 7)])
def test_every_warmup_changes_the_first_step(share: float, first: float) -> None:
    assert rates(Training(lr=1.0, schedule="cosine", warmup=share), 6)[0] == pytest.approx(first)


def test_sgd_has_momentum_and_weight_decay() -> None:
    layer = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        layer.weight.fill_(2.0)
    optimizer = make_optimizer(layer, Training(optimizer="sgd", lr=0.1, momentum=0.5, weight_decay=0.01))
    expected, velocity = 2.0, 0.0
    for gradient in (1.0, -3.0, 0.5):
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        optimizer.step()
        velocity = 0.5 * velocity + gradient + 0.01 * expected
        expected -= 0.1 * velocity
        assert layer.weight.item() == pytest.approx(expected)


def test_gradients_are_scaled_down_together_and_never_up() -> None:
    layer = nn.Linear(2, 1)
    for norm, expected in ((None, 5.0), (2.0, 2.0), (9.0, 5.0)):
        layer.weight.grad, layer.bias.grad = torch.tensor([[3.0, 0.0]]), torch.tensor([4.0])
        clip_gradients(layer, Training(clip_norm=norm))
        assert torch.cat([layer.weight.grad[0], layer.bias.grad]).norm().item() == pytest.approx(expected)
        assert layer.weight.grad[0, 0] / layer.bias.grad[0] == pytest.approx(0.75)


def test_average_follows_the_weights_and_the_norms_statistics() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = AveragedWeights(network, 0.5)
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    for step in range(1, 12):
        for value in (*network.parameters(), network[1].running_mean):
            value.data.add_(torch.randn_like(value))
        average.update(step)
        decay = min(0.5, (1 + step) / (10 + step))
        for name, value in network.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * value
    own, places = copy.deepcopy(network.state_dict()), [value.data_ptr() for value in network.state_dict().values()]
    with average.in_network():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                torch.testing.assert_close(value, expected[name])
                assert name == "1.running_var" or not torch.equal(value, own[name])
        assert [value.data_ptr() for value in network.state_dict().values()] == places
        network[1].running_mean.fill_(9)  # as a re-estimation does
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())


def test_constant_buffer_stays_as_it_is() -> None:
    network = nn.Linear(1, 1)
    network.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    average = AveragedWeights(network, 0.5)
    average.update(1)
    with average.in_network():
        assert network.mask.tolist() == [0.0, -torch.inf]


@pytest.mark.parametrize(("share", "total", "steps"), [(0.07, 100, 7), (0.29, 100, 29), (0.55, 1000, 550), (0.5, 3, 2)])
def test_warm_up_has_no_step_by_rounding(share: float, total: int, steps: int) -> None:
    optimizer = make_optimizer(nn.Linear(1, 1), Training(lr=1.0))
    rise = make_schedule(optimizer, Training(warmup=share), total).lr_lambdas[0]
    assert sum(rise(step) < 1 for step in range(total)) == steps


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_state_goes_on_in_a_graph_and_out_of_one(optimizer: str, captured: bool) -> None:
    settings = Training.model_validate({"optimizer": optimizer, "lr": 0.1, "schedule": "poly"})
    layers, states = (nn.Linear(2, 1), nn.Linear(2, 1)), []
    for place, layer in enumerate(layers):
        made = make_optimizer(layer, settings, captured=captured != bool(place))
        states.append((made, make_schedule(made, settings, 9)))

    def step(place: int) -> None:
        for parameter in layers[place].parameters():
            parameter.grad = torch.ones_like(parameter)
        for part in states[place]:
            part.step()

    step(0)
    layers[1].load_state_dict(layers[0].state_dict())
    saved = {name: part.state_dict() for name, part in zip(("optimizer", "schedule"), states[0], strict=True)}
    load_optimizer(*states[1], copy.deepcopy(saved))
    rates = [made.param_groups[0]["lr"] for made, _ in states]
    assert [isinstance(rate, torch.Tensor) for rate in rates] == [captured, not captured]
    assert float(rates[1]) == pytest.approx(float(rates[0]), rel=1e-7)
    for place in (0, 1, 0, 1):
        step(place)
    torch.testing.assert_close(layers[1].weight, layers[0].weight)
