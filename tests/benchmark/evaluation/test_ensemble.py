"""The mean of networks' probabilities against numpy's."""

from __future__ import annotations

import numpy as np
import torch

from benchmark.evaluation.ensemble import Ensemble, probabilities_of
from tests.benchmark.tiny import TinyNet


def networks(count: int) -> list[TinyNet]:
    torch.manual_seed(0)
    return [TinyNet().eval() for _ in range(count)]


@torch.inference_mode()
def test_probabilities_are_numpys_mean_of_those_of_the_members_to_the_bit() -> None:
    members, images = networks(3), torch.rand(2, 1, 40, 24)
    single = [probabilities_of(member, images).numpy() for member in members]
    mean = probabilities_of(Ensemble(members), images)
    assert mean.dtype == torch.float32
    np.testing.assert_array_equal(mean.numpy(), np.mean(single, axis=0))
    assert not np.array_equal(single[0], single[1])


@torch.inference_mode()
def test_ensemble_of_one_network_is_that_network_to_the_bit() -> None:
    (network,), images = networks(1), torch.rand(2, 1, 40, 24)
    assert torch.equal(probabilities_of(Ensemble([network]), images), network(images).sigmoid())
