"""Stages of encoders: that the rule finds them in every network, and that the maps are those that it computes with."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.config import registry
from benchmark.predict import encoder_stages
from benchmark.predict.encoder_stages import MapSource
from benchmark.utils.errors import UserError

SIDE = 64

# Module, channels and side at 64x64, as each network's file has it.
EXPECTED = {
    "eal_icnet": [("join_1", 33, 32), ("join_2", 129, 16), ("join_3", 257, 8)],
    "eal_icnet.no_tssa": [("join_1", 33, 32), ("join_2", 129, 16), ("join_3", 257, 8)],
    "irdpnet": [("join_1", 33, 32), ("join_2", 129, 16), ("join_3", 257, 8)],
    "edanet": [("down_1", 15, 32), ("block_1", 260, 16), ("block_2", 450, 8)],
    "contextnet": [  # the branch of detail, then that of context, which sees a quarter of the image; unpadded stems
        *[("detail.0", 32, 31), ("detail.1", 64, 16), ("detail", 128, 8)],
        *[("context.2", 32, 7), ("context.5", 48, 4), ("context", 128, 2)],
    ],
    "esnet": [("encoder.3", 16, 32), ("encoder.6", 64, 16), ("encoder", 128, 8)],
    "letnet": [
        *[("stem.1", 32, 64), ("stem", 32, 32), ("encoder_1", 64, 16), ("encoder_2", 128, 8), ("block_4", 32, 4)],
    ],
    "fcn": [(f"encoder[{n}]", c, 64 >> n) for n, c in enumerate((64, 128, 256, 512, 512, 512))],
    "unet": [(f"encoder[{n}]", c, 64 >> n) for n, c in enumerate((64, 128, 256, 512, 512))],
    "hrnet.w18_small_v2": [(f"encoder[{n}]", 18 << n, 16 >> n) for n in range(4)],
    "manet": [(f"encoder[{n}]", c, 64 >> n) for n, c in enumerate((32, 24, 40, 112, 320), start=1)],
    "unetpp": [(f"encoder[{n}]", c, 64 >> n) for n, c in enumerate((32, 24, 40, 112, 320), start=1)],
}


def built(name: str) -> nn.Module:
    torch.manual_seed(0)
    (entry,) = registry.select(name)
    return entry.build().eval()


def image(side: int = SIDE) -> Tensor:
    return torch.rand(1, 1, side, side, generator=torch.Generator().manual_seed(0))


def hooks(network: nn.Module) -> int:
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in network.modules())


def test_every_network_of_the_table_is_looked_at() -> None:
    assert {name.split(".")[0] for name in EXPECTED} == {entry.name for entry in registry.select("all")}


@pytest.mark.parametrize("name", EXPECTED)
def test_stages_are_those_of_the_networks_file_and_nothing_is_left_behind(name: str) -> None:
    network, x = built(name), image()
    with torch.inference_mode():
        before = network(x)

    places = encoder_stages.find(network, x)
    maps = encoder_stages.take(network, x, places)

    result = [(str(place), *features.shape) for place, features in zip(places, maps, strict=True)]
    assert result == [(stage, channels, side, side) for stage, channels, side in EXPECTED[name]]
    assert hooks(network) == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    with torch.inference_mode():
        assert torch.equal(network(x), before)


def test_maps_are_what_the_networks_compute_with() -> None:
    x = image()
    hrnet, edanet, letnet = built("hrnet.w18_small_v2"), built("edanet"), built("letnet")

    result = {
        network: encoder_stages.take(network, x, encoder_stages.find(network, x)) for network in (hrnet, edanet, letnet)
    }

    with torch.inference_mode():
        for ours, theirs in zip(result[hrnet], hrnet.encoder(x), strict=True):
            assert np.array_equal(ours, theirs[0])
        eighth = edanet.block_2(edanet.down_3(edanet.block_1(edanet.down_2(edanet.down_1(x)))))
        deepest = letnet.encoder_3(letnet.encoder_2(letnet.encoder_1(letnet.stem(x))))
        assert np.array_equal(result[edanet][-1], eighth[0])
        assert np.array_equal(result[letnet][-1], letnet.block_4(letnet.transformer(deepest))[0])


class Own(nn.Module):
    """A user's network with what misleads: a gate, half a step, a shortcut, a layer called twice, work in place."""

    def __init__(self) -> None:
        super().__init__()
        self.enter = nn.Conv2d(1, 4, 3, padding=1)
        self.half_step = nn.Conv2d(4, 4, 3, stride=(1, 2), padding=1)
        self.down = nn.Conv2d(4, 8, 3, stride=(2, 1), padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())
        self.shared = nn.Conv2d(8, 8, 3, padding=1)
        self.shortcut = nn.Conv2d(8, 8, 1)
        self.act = nn.ReLU(inplace=True)
        self.up = nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.last = nn.Conv2d(4, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        half = self.down(self.half_step(F.relu(self.enter(x))))
        deep = self.shared(self.shared(half * self.gate(half)))
        logits: Tensor = self.last(self.up(self.act(deep + self.shortcut(half))))
        return logits


def test_rule_holds_in_a_network_of_the_users() -> None:
    network = Own().eval()

    result = encoder_stages.find(network, image(32))

    assert result == [MapSource("enter", call=1), MapSource("act", call=1)]


def test_shortcut_is_no_stage_although_it_comes_last() -> None:
    class Ends(Own):
        def forward(self, x: Tensor) -> Tensor:
            half = self.down(self.half_step(self.enter(x)))
            deep = self.shared(self.shared(half))
            logits: Tensor = self.last(self.up(deep + self.shortcut(half)))
            return logits

    network, x = Ends().eval(), image(32)

    result = encoder_stages.find(network, x)

    assert result == [MapSource("enter", call=1), MapSource("shared", call=2)]
    with torch.inference_mode():
        half = network.down(network.half_step(network.enter(x)))
        twice = network.shared(network.shared(half))
    assert np.array_equal(encoder_stages.take(network, x, result)[1], twice[0])


def test_map_is_copied_before_the_next_layer_overwrites_it() -> None:
    network, x = nn.Sequential(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(3, 1, 1)).eval(), image()

    (features,) = encoder_stages.take(network, x, [MapSource("0")])

    assert features.min() < 0
    with torch.inference_mode():
        assert np.array_equal(features, network[0](x)[0])


def test_of_modules_that_return_several_maps_the_outermost_first_one_of_most_counts() -> None:
    class Pyramid(nn.Module):
        def forward(self, maps: list[Tensor]) -> list[Tensor]:
            return [2 * each for each in maps]

    class Backbone(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 2, 1)
            self.inner = Pyramid()

        def forward(self, x: Tensor) -> list[Tensor]:
            maps = [x, *(F.avg_pool2d(self.stem(x), scale) for scale in (2, 4))]
            return [x, *self.inner(maps[1:])]

    class Whole(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.neck, self.head = Backbone(), Pyramid(), nn.Conv2d(2, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            maps = self.neck(self.encoder(x)[1:])
            logits: Tensor = self.head(F.interpolate(maps[-1], scale_factor=4) + F.interpolate(maps[0], scale_factor=2))
            return logits

    assert encoder_stages.find(Whole().eval(), image(16)) == [MapSource("encoder", 1, 1), MapSource("encoder", 2, 1)]


def test_hooks_go_also_where_the_network_fails() -> None:
    network = built("eal_icnet")

    for call in (encoder_stages.find, lambda *given: encoder_stages.take(*given, [MapSource("stem")])):
        with pytest.raises(ValueError, match="multiples of 8"):
            call(network, image(20))
        assert hooks(network) == 0


def test_modules_are_named_as_they_are_shown() -> None:
    assert [MapSource.parse(text) for text in ("down_2", "encoder[3]")] == [
        MapSource("down_2"),
        MapSource("encoder", 3),
    ]
    assert [str(MapSource.parse(text)) for text in ("context.5", "encoder[3]")] == ["context.5", "encoder[3]"]
    network = built("eal_icnet")

    with pytest.raises(UserError, match=r"--at down_3: no such module; did you mean 'down_\d'\?.*stem, join_1"):
        encoder_stages.take(network, image(), [MapSource("down_3")])
    with pytest.raises(UserError, match=r"--at stem\[1\]: returns no map"):
        encoder_stages.take(network, image(), [MapSource("stem", 1)])
    with pytest.raises(UserError, match="name modules with --at"):
        encoder_stages.find(nn.Conv2d(1, 1, 1), image())
