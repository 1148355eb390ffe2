"""Testing a network: its predictions become counts, of the windows that the protocol asks for."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmark import metrics
from benchmark.config import registry
from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data.batches import evaluation_batches
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.packs import IGNORED, Pack, open_pack
from benchmark.data.tile_blocks import blocks_of, join
from benchmark.evaluation.counts import reduce_counts
from benchmark.evaluation.ensemble import averaged
from benchmark.evaluation.evaluate import evaluate
from benchmark.evaluation.reference_methods import otsu, score_reference
from benchmark.metrics import CONNECTION_COLUMNS
from tests.benchmark.data.folder_makers import add_pair, picture

CPU = torch.device("cpu")


class Bright(torch.nn.Module):
    """Foreground where a pixel is brighter than half, and a note of the sizes seen."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(tuple(x.shape))
        return x - 0.5


def with_evaluation(protocol: Protocol, **changes: object) -> Protocol:
    return protocol.model_copy(update={"evaluation": protocol.evaluation.model_copy(update=changes)})


def test_evaluation_counts_what_the_network_predicts(small: Protocol, pack: Pack) -> None:
    indices = pack.divide(small).test
    (rows,) = evaluate(Bright(), pack, indices, small, CPU).values()
    images, masks = pack.centre(indices, 32)
    for row, image, mask in zip(rows, images[..., 0], masks[:, 0], strict=True):
        prediction = image / 255 >= 0.5  # sigmoid(x - 0.5) >= 0.5
        assert row["tp"] == (prediction & (mask > 0)).sum()
        assert row["fp"] == (prediction & (mask == 0)).sum()
    assert [row["image"] for row in rows] == [pack.tiles[index].name for index in indices]


def test_threshold_other_than_half_is_applied_to_probabilities(small: Protocol, pack: Pack) -> None:
    class Constant(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full_like(x, torch.logit(torch.tensor(0.6)).item())

    indices = pack.divide(small).test
    for threshold, foreground in ((0.5, True), (0.7, False)):
        (rows,) = evaluate(Constant(), pack, indices, with_evaluation(small, threshold=threshold), CPU).values()
        assert all((int(row["fn"]) + int(row["tn"]) == 0) is foreground for row in rows)


@pytest.mark.parametrize(("window", "side"), [("input", 32), ("tile", 64)])
def test_window_is_the_input_or_the_whole_tile(small: Protocol, pack: Pack, window: str, side: int) -> None:
    network, indices = Bright(), pack.divide(small).test
    (rows,) = evaluate(network, pack, indices, with_evaluation(small, window=window), CPU).values()
    assert {shape[2:] for shape in network.seen} == {(side, side)}
    _, masks = pack.centre(indices, side)
    assert [int(row["tp"]) + int(row["fn"]) for row in rows] == masks.sum(axis=(1, 2, 3)).tolist()


def test_ignored_pixels_count_nowhere(small: Protocol, pack: Pack) -> None:
    indices = pack.divide(small).test
    masks = np.array(pack.masks)
    masks[:, :, :20] = IGNORED  # of the centred window, columns 16 to 47, the first four
    part = replace(pack, masks=masks, has_ignored=True)
    (rows,) = evaluate(Bright(), part, indices, small, CPU).values()
    images, truth = part.centre(indices, 32)
    for row, image, mask in zip(rows, images[..., 0], truth[:, 0], strict=True):
        bright = image / 255 >= 0.5
        assert row["ignored"] == 32 * 4
        assert (row["tp"], row["fp"]) == ((bright & (mask == 1)).sum(), (bright & (mask == 0)).sum())


class TwoLayers(torch.nn.Module):
    """Bright pixels are the first layer, dark ones the second."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x - 0.5, 0.3 - x], dim=1)


def test_each_layer_has_the_rows_of_its_own_test(small: Protocol, pack: Pack) -> None:
    class Dark(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.3 - x

    indices = pack.divide(small).test
    vias = np.ascontiguousarray(pack.masks[:, ::-1])
    vias[indices[0]] = IGNORED  # not labelled
    both = replace(pack, masks=np.concatenate([pack.masks, vias], -1), layers=("track", "via"), has_ignored=True)
    result = evaluate(TwoLayers(), both, indices, small, CPU)
    (tracks,) = evaluate(Bright(), pack, indices, small, CPU).values()
    (vias_alone,) = evaluate(Dark(), replace(pack, masks=vias, layers=("via",)), indices, small, CPU).values()
    for row in result["omc-syn@via"]:
        for name in CONNECTION_COLUMNS:
            del row[name]  # type: ignore[attr-defined]  # what one layer alone does not have
    assert result == {"omc-syn@track": tracks, "omc-syn@via": vias_alone}
    assert vias_alone[0]["ignored"] == 32 * 32
    assert not any(vias_alone[0][name] for name in ("tp", "fp", "fn", "tn", "via_true", "via_predicted"))


def test_predictions_do_not_pile_up_before_slow_scoring(
    small: Protocol, pack: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.evaluation.evaluate.BACKLOG", 2)
    counted: list[int] = []

    def slowly(mask: np.ndarray, *_: object) -> dict[str, int]:
        time.sleep(0.02)
        counted.append(0)
        return {"tp": int(mask.sum())}

    class Watching(Bright):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            waiting.append(len(waiting) - len(counted))
            return super().forward(x)

    waiting: list[int] = []
    monkeypatch.setattr("benchmark.evaluation.counts.count_terms", slowly)
    indices = range(len(pack.tiles))
    (rows,) = evaluate(Watching(), pack, indices, with_evaluation(small, batch=1), CPU).values()
    assert max(waiting) == 2
    assert [row["image"] for row in rows] == [tile.name for tile in pack.tiles]


def test_error_in_scoring_is_not_lost(small: Protocol, pack: Pack, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: object) -> dict[str, int]:
        raise ZeroDivisionError

    monkeypatch.setattr("benchmark.evaluation.counts.count_terms", failing)
    with pytest.raises(ZeroDivisionError):
        evaluate(Bright(), pack, pack.divide(small).test, small, CPU)


@pytest.mark.parametrize("cldice", [False, True])
def test_skeletons_are_counted_where_the_protocol_asks(small: Protocol, pack: Pack, cldice: bool) -> None:
    indices = pack.divide(small).test
    (rows,) = evaluate(Bright(), pack, indices, with_evaluation(small, cldice=cldice), CPU).values()
    assert all(("skeleton_true" in row) is cldice for row in rows)
    assert ("cldice" in reduce_counts(rows)["pooled"]) is cldice


@pytest.mark.slow
def test_scoring_hardly_slows_the_test_of_the_lightest_network(cache: Path) -> None:
    """Inference alone and inference with scoring in turns, on whole 512x512 images, one CPU thread for the network."""
    protocol = load_protocol("paper", ["data.standin_images=24", "split.test=0.5"])
    (source,) = resolve("omc-syn", cache / "no data", protocol, HashCache(cache / "hashes.json"))
    pack = open_pack(source, protocol, cache)
    indices = pack.divide(protocol).test

    class Trained(torch.nn.Module):
        """Takes the time of the network; answers like a trained one: the truth with a few hundred wrong pixels."""

        def __init__(self) -> None:
            super().__init__()
            self.network = registry.models()["contextnet"].build(in_channels=1)
            self.answers = iter(())

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.network(x) * 0 + next(self.answers)

    _, masks = pack.centre(indices, 512)
    noise = np.random.default_rng(0).random(masks.shape) < 1e-3
    answers = torch.from_numpy(((masks == 1) ^ noise) - np.float32(0.5))[:, None]
    network, alone, scored = Trained().eval(), [], []

    @torch.inference_mode()
    def infer() -> None:
        for batch in evaluation_batches(pack, indices, 512, protocol.evaluation.batch, CPU):
            (network(batch.images).sigmoid() >= 0.5)[:, 0].numpy()

    for _ in range(7):
        for call, seconds in (
            (infer, alone),
            (lambda: evaluate(network, pack, indices, protocol, CPU), scored),
        ):
            network.answers = iter(answers)
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
    assert np.median(scored) / np.median(alone) < 1.15


def test_block_is_predicted_by_windows_of_the_input_and_counted_as_one_image(tmp_path: Path) -> None:
    add_pair(tmp_path / "data" / "scan", "scan", picture(3, 64, 320))
    protocol = load_protocol("open", ["input.size=32", "split.test=0.3", "evaluation.batch=3"])
    (scan,) = resolve("scan", tmp_path / "data", protocol, HashCache(None))
    pack, network = open_pack(scan, protocol, tmp_path / "cache"), Bright()
    indices = pack.divide(protocol).test
    assert len(indices) == 4
    (rows,) = evaluate(network, pack, indices, protocol, CPU).values()
    (block,) = blocks_of(pack.tiles, indices)
    image, masks = join(pack, block.grid)
    prediction, truth = image[..., 0] / 255 >= 0.5, masks[..., 0] == 1
    (row,) = rows
    assert {shape[1:] for shape in network.seen} == {(1, 32, 32)}
    assert sum(shape[0] for shape in network.seen) == 9  # 3 x 3 windows with half overlap over 64 x 64 pixels
    assert (row["image"], row["tp"], row["fn"]) == (block.tile.name, (prediction & truth).sum(), 0)
    whole = metrics.count_image(truth, prediction, border_px=16, min_area_px=16)
    assert {name: row[name] for name in ("nets", "opens", "shorts")} == {
        name: whole[name] for name in ("nets", "opens", "shorts")
    }
    (reference,) = score_reference("otsu", pack, indices, protocol)["scan"]
    assert (reference["image"], reference["tp"]) == (block.tile.name, (otsu(image) & truth).sum())


def test_blocks_have_all_layers_and_ensembles(tmp_path: Path) -> None:
    class TwoLayers(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([x - 0.5, 0.25 - x], dim=1)

    add_pair(tmp_path / "data" / "scan", "scan", picture(3, 64, 320))
    shutil.copytree(tmp_path / "data/scan/label", tmp_path / "data/scan/label_contact")
    protocol = load_protocol("open", ["input.size=32", "split.test=0.3", "data.target=metal+contact"])
    (scan,) = resolve("scan", tmp_path / "data", protocol, HashCache(None))
    pack = open_pack(scan, protocol, tmp_path / "cache")
    indices = pack.divide(protocol).test
    for network in (TwoLayers(), averaged([TwoLayers(), TwoLayers()])):
        tested = evaluate(network, pack, indices, protocol, CPU)
        assert tested.keys() == {"scan@metal", "scan@contact"}
        metal, contact = (rows[0] for rows in tested.values())
        image = join(pack, blocks_of(pack.tiles, indices)[0].grid)[0][..., 0] / 255
        assert (metal["fn"], contact["tp"]) == (0, 0)
        assert contact["fp"] == (image <= 0.25).sum()
