"""Published figures against what the networks here count in the published configuration."""

from __future__ import annotations

from decimal import Decimal

import pytest
import torch
from torch import nn

from benchmark.config import registry
from benchmark.config.published import CHANNELS, CLASSES, PUBLISHED
from benchmark.efficiency.macs import count_macs
from benchmark.efficiency.parameters import split_parameters


def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return registry.models()[name].build(CHANNELS, CLASSES, **PUBLISHED[name].kwargs).eval()


def rounds_to(value: float, printed: str) -> bool:
    """Tell whether a value is the printed one at the printed number of digits."""
    return round(Decimal(value), -int(Decimal(printed).as_tuple().exponent)) == Decimal(printed)


SLOW = ("letnet", "hrnet")  # seconds each, since they have thousands of operations


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in PUBLISHED]
)
def test_published_figure_is_ours_or_the_difference_is_explained(name: str) -> None:
    published = PUBLISHED[name]
    network, image = on_meta(name), (1, CHANNELS, *published.size)
    params, unused = split_parameters(network, image)
    assert not unused
    assert params == published.counted_params
    agree = [rounds_to(params / 1e6, published.params)]
    if published.gmacs is not None:
        gmacs = sum(count_macs(network, image)[0].values()) / published.giga
        assert gmacs == pytest.approx(published.counted_gmacs, abs=5e-4)
        agree.append(rounds_to(gmacs, published.gmacs))
    assert all(agree) is not bool(published.differs)


@pytest.mark.slow
def test_what_letnet_s_paper_leaves_out_is_the_product_of_attention() -> None:
    counts, _ = count_macs(on_meta("letnet"), (1, CHANNELS, *PUBLISHED["letnet"].size))
    attention = counts["scaled_dot_product_attention"]
    assert round(attention / 1e9, 2) == 0.30
    assert 13.6 <= (sum(counts.values()) - attention) / 1e9 < 13.7


def test_edanet_s_figure_is_its_count_without_the_classifier() -> None:
    network = on_meta("edanet")
    classifier = [
        layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.out_channels == CLASSES
    ]
    (size,) = (sum(parameter.numel() for parameter in layer.parameters()) for layer in classifier)
    assert rounds_to((PUBLISHED["edanet"].counted_params - size) / 1e6, "0.681")


def test_every_published_network_is_registered_and_says_so() -> None:
    table = registry.models()
    for name, published in PUBLISHED.items():
        assert table[name].published == published
        assert published.describe().startswith("published")
        assert published.source in published.describe()
    assert table["unet"].published is None
    assert table["letnet"].published is not None


@pytest.mark.parametrize(
    ("value", "printed", "expected"),
    [
        (0.7566, "0.76", True),
        (0.7549, "0.76", False),
        (0.6895, "0.68", False),
        (13.959, "13.6", False),
        (13.64, "13.6", True),
    ],
)
def test_rounding_follows_the_printed_digits(value: float, printed: str, expected: bool) -> None:
    assert rounds_to(value, printed) is expected
