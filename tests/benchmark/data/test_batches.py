from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.protocol import Protocol, load_protocol
from benchmark.data import batches
from benchmark.data.batches import Batch, TrainingBatches, evaluation_batches, labelled_corner, labelled_windows
from benchmark.data.packs import IGNORED, Pack, Tile

CPU = torch.device("cpu")
SIDE, SIZE = 24, 16


def protocol(*overrides: str) -> Protocol:
    return load_protocol("quick", [f"input.size={SIZE}", f"input.tile={SIDE}", *overrides])


def make_pack(count: int = 10, channels: int = 1, dataset: str = "omc-syn", seed: int = 0) -> Pack:
    """A pack whose images are their masks: bright where there is track, with noise below that tells pixels apart."""
    rng = np.random.default_rng(seed)
    masks = rng.integers(0, 2, (count, SIDE, SIDE, 1), dtype=np.uint8)
    images = rng.integers(0, 128, (count, SIDE, SIDE, channels), dtype=np.uint8) + 128 * masks
    return Pack(dataset, "f", images, masks, tuple(Tile(f"i{i}", f"i{i}", None) for i in range(count)))


def epoch(
    pack: Pack, chosen: Protocol, repeat: int = 0, number: int = 0, indices: Sequence[int] | None = None
) -> list[Batch]:
    indices = range(len(pack.tiles)) if indices is None else indices
    return list(TrainingBatches([(pack, indices)], chosen.input.size, chosen, repeat, CPU).epoch(number))


def pixels(batches: list[Batch]) -> torch.Tensor:
    return torch.cat([batch.images for batch in batches])


def as_bytes(batch: Batch) -> np.ndarray:
    return (batch.images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def windows(image: np.ndarray) -> dict[bytes, tuple[int, int]]:
    places = range(SIDE - SIZE + 1)
    return {image[t : t + SIZE, x : x + SIZE].tobytes(): (t, x) for t in places for x in places}


@pytest.mark.parametrize("channels", [1, 3])
def test_batches_have_the_promised_shapes_and_ranges(channels: int) -> None:
    chosen = protocol("training.batch=4")
    result = epoch(make_pack(channels=channels), chosen)
    assert len(result) == len(TrainingBatches([(make_pack(), range(10))], chosen.input.size, chosen, 0, CPU)) == 3
    assert [tuple(b.images.shape) for b in result] == [(n, channels, SIZE, SIZE) for n in (4, 4, 2)]
    assert [tuple(b.masks.shape) for b in result] == [(n, 1, SIZE, SIZE) for n in (4, 4, 2)]
    for batch in result:
        assert batch.images.dtype == batch.masks.dtype == torch.float32
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
        assert set(batch.masks.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize("overrides", [(), ("training.augmentation=flips_turns", "photometric.noise=0.1")])
def test_batches_gathered_ahead_for_a_gpu_are_those_of_a_cpu(
    overrides: Sequence[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen, pack = protocol("training.batch=4", *overrides), make_pack()
    expected = epoch(pack, chosen)
    on_device = batches.to_device
    monkeypatch.setattr(batches, "to_device", lambda *pixels, ignored: on_device(*pixels[:2], CPU, ignored=ignored))
    ahead = list(TrainingBatches([(pack, range(10))], SIZE, chosen, 0, torch.device("cuda")).epoch(0))
    assert len(ahead) == len(expected)
    for batch, other in zip(ahead, expected, strict=True):
        assert torch.equal(batch.images, other.images)
        assert torch.equal(batch.masks, other.masks)


def test_levels_0_and_255_become_0_and_1() -> None:
    images = np.array([0, 255], np.uint8).repeat(SIDE * SIDE).reshape(2, SIDE, SIDE, 1)
    pack = Pack("omc", "f", images, np.zeros_like(images), (Tile("a", "a", None), Tile("b", "b", None)))
    (batch,) = evaluation_batches(pack, [0, 1], SIZE, 2, CPU)
    assert batch.images[0].unique().tolist() == [0.0]
    assert batch.images[1].unique().tolist() == [1.0]


def test_every_image_comes_once_per_epoch_as_a_window_of_its_tile() -> None:
    pack = make_pack()
    known = {key: i for i in range(10) for key in windows(pack.images[i])}
    crops = [crop for batch in epoch(pack, protocol()) for crop in as_bytes(batch)]
    assert sorted(known[crop.tobytes()] for crop in crops) == list(range(10))


def test_crops_reach_both_edges_of_the_tile() -> None:
    pack = make_pack(1)
    known = windows(pack.images[0])
    seen = {known[as_bytes(epoch(pack, protocol(), number=n)[0])[0].tobytes()] for n in range(300)}
    last = SIDE - SIZE
    assert {t for t, _ in seen} == {x for _, x in seen} == set(range(last + 1))


def test_tile_of_the_inputs_size_is_used_whole() -> None:
    pack = make_pack()
    for batch in epoch(pack, protocol(f"input.size={SIDE}")):
        for crop in as_bytes(batch):
            assert any(np.array_equal(crop, image) for image in pack.images)


@given(
    seed=st.integers(0, 2**32), repeat=st.integers(0, 9), number=st.integers(0, 99), channels=st.sampled_from([1, 3])
)
@pytest.mark.parametrize("augmentation", ["none", "flips_turns"])
def test_masks_stay_aligned_with_images(augmentation: str, seed: int, repeat: int, number: int, channels: int) -> None:
    chosen = protocol(f"training.augmentation={augmentation}")
    for batch in epoch(make_pack(3, channels, seed=seed), chosen, repeat, number):
        assert torch.equal(batch.images > 127.5 / 255, batch.masks.bool().expand_as(batch.images))


def test_flips_and_turns_give_all_eight_symmetries_equally_often() -> None:
    pack = make_pack(1)
    symmetries = {}
    for turns in range(4):
        turned = np.rot90(pack.images[0], turns)
        symmetries |= {turned.tobytes(): (turns, False), turned[:, ::-1].tobytes(): (turns, True)}
    chosen = protocol(f"input.size={SIDE}", "training.augmentation=flips_turns")
    draws = 800
    counts = dict.fromkeys(symmetries.values(), 0)
    for number in range(draws):
        counts[symmetries[as_bytes(epoch(pack, chosen, number=number)[0])[0].tobytes()]] += 1
    # Binomial(800, 1/8): mean 100, standard deviation 9.4; five of them either way.
    assert len(counts) == 8
    assert all(53 <= count <= 147 for count in counts.values()), counts


def test_order_and_crops_are_the_same_for_every_model() -> None:
    """Whatever a network does with torch's and numpy's global random states between two steps."""
    pack, chosen = make_pack(), protocol("training.augmentation=flips_turns")
    first = pixels(epoch(pack, chosen))
    torch.manual_seed(7)
    torch.rand(3)
    np.random.seed(7)  # noqa: NPY002 - the global state is what is under test
    assert torch.equal(first, pixels(epoch(pack, chosen)))


def test_order_and_crops_do_not_depend_on_micro_batch() -> None:
    pack = make_pack()
    assert torch.equal(
        pixels(epoch(pack, protocol("training.batch=1"))), pixels(epoch(pack, protocol("training.batch=5")))
    )


def test_random_streams_differ() -> None:
    chosen, pack = protocol(), make_pack()
    batches = TrainingBatches([(pack, range(10))], chosen.input.size, chosen, 0, CPU)
    result = [
        pixels(epoch(pack, chosen)),
        pixels(epoch(pack, chosen, repeat=1)),
        pixels(epoch(pack, chosen, number=1)),
        pixels(epoch(pack, protocol("seed=1"))),
        pixels(epoch(make_pack(dataset="miic-syn"), chosen)),
        pixels(list(batches.epoch(0, purpose="norms 0"))),
        pixels(list(batches.epoch(0, purpose="norms 1"))),
    ]
    for i, one in enumerate(result):
        assert all(not torch.equal(one, other) for other in result[i + 1 :])


def test_epoch_can_be_repeated_alone() -> None:
    pack, chosen = make_pack(), protocol()
    batches = TrainingBatches([(pack, range(10))], chosen.input.size, chosen, 0, CPU)
    in_turn = [pixels(list(batches.epoch(number))) for number in range(3)]
    assert torch.equal(in_turn[2], pixels(epoch(pack, chosen, number=2)))


def test_only_the_given_images_are_used() -> None:
    pack = make_pack()
    allowed = {key for i in (2, 5, 7) for key in windows(pack.images[i])}
    crops = [crop for batch in epoch(pack, protocol(), indices=[2, 5, 7]) for crop in as_bytes(batch)]
    assert len(crops) == 3
    assert {crop.tobytes() for crop in crops} <= allowed


def test_several_datasets_are_one_set_of_crops_of_one_size() -> None:
    chosen = protocol("training.batch=4", "training.micro_batch_by_dataset={miic=2}")
    packs = make_pack(6, seed=1), make_pack(5, dataset="miic-syn", seed=2)
    larger = (
        np.kron(packs[1].images, np.ones((1, 2, 2, 1), np.uint8)),
        np.kron(packs[1].masks, np.ones((1, 2, 2, 1), np.uint8)),
    )
    packs = packs[0], replace(packs[1], images=larger[0], masks=larger[1])
    batches = TrainingBatches([(packs[0], [0, 2, 5]), (packs[1], range(5))], SIZE, chosen, 0, CPU)
    assert (len(batches), batches.micro_batch) == (2, 2)
    result = [image for batch in batches.epoch(0) for image in as_bytes(batch)]
    expected = [(packs[0], index) for index in (0, 2, 5)] + [(packs[1], index) for index in range(5)]
    origins = [
        [number for number, (pack, index) in enumerate(expected) if holds(pack.images[index], image)]
        for image in result
    ]
    assert sorted(origins) == [[number] for number in range(8)]
    orders = [pixels(list(batches.epoch(number))).sum().item() for number in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


def holds(tile: np.ndarray, window: np.ndarray) -> bool:
    places = range(len(tile) - SIZE + 1)
    return any(np.array_equal(tile[t : t + SIZE, x : x + SIZE], window) for t in places for x in places)


@pytest.mark.parametrize("labelled", [np.s_[:, :9], np.s_[20:, 20:], np.s_[11:13, 11:13]])
def test_training_crops_hold_labelled_pixels(labelled: tuple[slice, slice]) -> None:
    pack = partly_labelled(labelled)
    counted = pack.masks[0, ..., 0] != IGNORED
    fullest = max(
        counted[t : t + SIZE, x : x + SIZE].mean() for t in range(SIDE - SIZE + 1) for x in range(SIDE - SIZE + 1)
    )
    least = min(0.1, fullest)
    crops = [batch.counted for number in range(60) for batch in epoch(pack, protocol(), number=number)]
    assert min(crop.mean((1, 2, 3)).min().item() for crop in crops if crop is not None) >= least - 1e-6
    again = [batch.counted for number in range(60) for batch in epoch(pack, protocol(), number=number)]
    assert all(torch.equal(a, b) for a, b in zip(crops, again, strict=True) if a is not None and b is not None)


def partly_labelled(labelled: tuple[slice, slice]) -> Pack:
    pack = make_pack(4)
    masks = np.full_like(pack.masks, IGNORED)
    for mask, whole in zip(masks, pack.masks, strict=True):
        mask[labelled] = whole[labelled]
    return replace(pack, masks=masks, has_ignored=True)


def test_crops_are_spread_over_all_labelled_places() -> None:
    counted = np.zeros((SIDE, SIDE), np.bool_)
    counted[:, 20:] = True  # the columns 2 to 8 of 0 to 8 hold a tenth
    places = range(SIDE - SIZE + 1)
    result = Counter(labelled_corner(counted, SIZE, top, left, 0.1) for top in places for left in places)
    enough = {(t, x) for t in places for x in places if counted[t : t + SIZE, x : x + SIZE].mean() >= 0.1}
    assert set(result) == enough
    assert max(result.values()) - min(result.values()) <= 1
    assert all(labelled_corner(counted, SIZE, *place, 0.1) == place for place in enough)


def test_validation_leaves_out_windows_without_labels() -> None:
    pack = partly_labelled(np.s_[:, :6])
    pack.masks[2] = 0
    assert labelled_windows(pack, [0, 1, 2], 16, 0.1) == [0, 1, 2]  # 2 of 16 columns
    assert labelled_windows(pack, [0, 1, 2], 8, 0.1) == [2]
    assert labelled_windows(pack, [0, 1], 8, 0.1) == [0, 1]
    assert labelled_windows(make_pack(), [0, 1], 8, 0.1) == [0, 1]


def test_unlabelled_tile_is_cropped_as_drawn() -> None:
    assert labelled_corner(np.zeros((SIDE, SIDE), np.bool_), SIZE, 3, 5, 0.1) == (3, 5)


def test_crops_of_labelled_images_are_the_same_beside_partly_labelled_ones() -> None:
    whole = make_pack(6)
    mixed = replace(whole, masks=whole.masks.copy(), has_ignored=True)
    mixed.masks[3:, :, 4:] = IGNORED
    chosen = protocol("training.augmentation=flips_turns", "training.batch=1")
    ours, theirs = epoch(whole, chosen), epoch(mixed, chosen)
    full = [i for i, batch in enumerate(theirs) if batch.counted is not None and batch.counted.all()]
    assert len(full) == 3
    for index in full:
        assert torch.equal(ours[index].images, theirs[index].images)


def test_evaluation_windows_are_centred_and_in_order() -> None:
    pack = make_pack()
    result = list(evaluation_batches(pack, [7, 0, 3], SIZE, 2, CPU))
    assert [len(batch.images) for batch in result] == [2, 1]
    margin = (SIDE - SIZE) // 2
    expected = pack.images[[7, 0, 3], margin:-margin, margin:-margin]
    np.testing.assert_array_equal(np.concatenate([as_bytes(batch) for batch in result]), expected)
    for batch in result:
        assert torch.equal(batch.images > 127.5 / 255, batch.masks.bool())


def test_no_images_give_no_batch() -> None:
    assert list(evaluation_batches(make_pack(), [], SIZE, 2, CPU)) == []


@pytest.mark.gpu
def test_gpu_batches_equal_cpu_batches() -> None:
    pack, chosen = make_pack(), protocol("training.augmentation=flips_turns")
    on_gpu = list(TrainingBatches([(pack, range(10))], chosen.input.size, chosen, 0, torch.device("cuda")).epoch(0))
    assert all(batch.images.is_cuda and batch.masks.is_cuda for batch in on_gpu)
    assert torch.equal(torch.cat([batch.images.cpu() for batch in on_gpu]), pixels(epoch(pack, chosen)))
