"""Losses and optimisation by CUDA graphs: replays compute what calls do, and nothing waits for the device."""

from __future__ import annotations

import pytest
import torch

from benchmark.config.protocol import load_protocol
from benchmark.data.packs import Pack
from benchmark.training.losses import LOSS_FUNCTIONS
from tests.benchmark.devices.test_cuda_graphs import EXACT, REPLAYS, both, meta, take_a_step, with_settings
from tests.benchmark.fake_graphs import Tape, tapes
from tests.benchmark.tiny import Comparable, TinyNet

__all__ = ["meta", "tapes"]  # fixtures

#: Settings of a loss: clDice's twenty erosions are all alike.
FEW = {"cldice": ["loss.cldice_iterations=2"]}
# Every loss, and all that happens between two steps.
CHOICES = [
    *([f"loss.name={name}", *FEW.get(name, [])] for name in LOSS_FUNCTIONS),
    *(["loss.name=scnp", f"loss.scnp_inside={name}", *FEW.get(name, [])] for name in LOSS_FUNCTIONS),
    ["training.clip_norm=0.1", "training.ema=0.9", "training.warmup=0.2", "training.schedule=poly"],
]


@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_choices_of_a_training_are_replayed_to_the_last_bit(pack: Pack, tapes: list[Tape], choice: list[str]) -> None:
    eager, replayed = both(TinyNet, pack, with_settings(*choice))
    replayed.assert_equal(eager, **EXACT)
    assert [tape.replays for tape in tapes] == REPLAYS


@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_no_choice_of_a_training_asks_the_device_for_a_number(choice: list[str], meta: torch.device) -> None:
    take_a_step(TinyNet(), meta, load_protocol("paper", choice))


@pytest.mark.gpu
@pytest.mark.parametrize("choice", CHOICES, ids=" ".join)
def test_gpu_replays_every_choice_of_a_training(pack: Pack, choice: list[str]) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    assert both(Comparable, pack, with_settings(*choice), device)[1].launch.facts() == {"execution": "graph"}
