from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.protocol import Split
from benchmark.data.splits import Division, Tile
from benchmark.utils.errors import UserError
from tests.benchmark.data.tile_makers import (
    BLOCK,
    GROUP,
    IMAGE,
    NAMES,
    TOGETHER,
    alike,
    divide,
    frames,
    grid,
    images,
    parts,
    shuffled,
    split,
)


def test_shares_are_as_requested_and_cover_every_image_once() -> None:
    division = split(NAMES, IMAGE)
    assert [len(division.train), len(division.val), len(division.test)] == [80, 10, 10]
    assert sorted(division.train + division.val + division.test) == list(range(100))
    assert list(division.train) == sorted(division.train)


def test_another_seed_gives_another_test() -> None:
    assert split(NAMES, IMAGE).test != split(NAMES, IMAGE, seed=1).test
    assert split(NAMES, IMAGE) == split(NAMES, IMAGE)


@given(order=st.permutations(NAMES[:30]), seed=st.integers(0, 2**63 - 1))
def test_order_of_images_does_not_change_split(order: list[str], seed: int) -> None:
    names = NAMES[:30]
    assert parts(split(order, IMAGE, seed=seed), order) == parts(split(names, IMAGE, seed=seed), names)
    assert split(order, IMAGE, seed=seed).digest(order) == split(names, IMAGE, seed=seed).digest(names)


def test_added_image_displaces_at_most_one_image_per_part() -> None:
    before = parts(split(NAMES, IMAGE), NAMES)
    more = [*NAMES, "new"]
    after = parts(split(more, IMAGE), more)
    assert sum(before[name] != after[name] for name in NAMES) <= 2


def test_digest_differs_between_divisions() -> None:
    digests = {split(NAMES, IMAGE, seed=seed).digest(NAMES) for seed in range(5)}
    assert len(digests) == 5


@given(
    frame_count=st.integers(3, 40),
    tiles=st.integers(1, 12),
    counts=st.none() | st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 12)),
    seed=st.integers(0, 1000),
)
def test_no_frame_is_in_two_parts(frame_count: int, tiles: int, counts: tuple[int, int, int] | None, seed: int) -> None:
    names, groups = frames(frame_count, tiles)
    try:
        division = split(names, Split(unit="group", counts=counts), groups, seed)
    except UserError:
        # Whole frames cannot fill the counts; each part wastes less than one frame.
        assert counts is not None
        assert sum(-(-count // tiles) for count in counts) > frame_count
        return
    sides = [{groups[i] for i in part} for part in (division.train, division.val, division.test)]
    assert sum(map(len, sides)) == len(set().union(*sides))
    if counts is not None:
        assert (len(division.train), len(division.val), len(division.test)) == counts


def test_tiles_of_a_frame_may_be_in_two_parts_if_unit_is_image() -> None:
    names, groups = frames(4, 12)
    division = split(names, IMAGE, groups)
    assert {groups[i] for i in division.test} & {groups[i] for i in division.train}


def test_few_frames_still_give_a_validation_and_a_test() -> None:
    names, groups = frames(3, 4)
    division = split(names, GROUP, groups)
    assert [len(division.train), len(division.val), len(division.test)] == [4, 4, 4]


def test_shares_of_zero_leave_a_part_empty() -> None:
    division = split(NAMES, Split(unit="image", validation=0, test=0))
    assert (len(division.train), division.val, division.test) == (100, (), ())


def test_too_few_frames_are_refused_with_the_setting() -> None:
    names, groups = frames(2, 12)
    with pytest.raises(UserError, match=r"omc: 2 groups cannot be split .*--set split\.unit=image"):
        split(names, GROUP, groups)
    with pytest.raises(UserError, match=r"omc: 24 images in 2 groups cannot fill") as caught:
        split(names, Split(unit="group", counts=(4, 4, 4)), groups)
    assert "--set split.unit=image" in str(caught.value)


def test_too_few_images_are_refused_without_useless_remedy() -> None:
    with pytest.raises(UserError, match=r"omc: 2 images cannot be split") as caught:
        split(NAMES[:2], IMAGE)
    assert "split.unit" not in str(caught.value)
    with pytest.raises(UserError, match=r"omc: 10 images cannot fill split\.counts \(9, 1, 1\)"):
        split(NAMES[:10], Split(unit="image", counts=(9, 1, 1)))


def test_existing_division_is_kept() -> None:
    owner = ["test", "val", "train", "train"]
    for how in (IMAGE, GROUP, BLOCK):
        assert divide("omc", images("abcd", owner=owner), how, 0) == Division((2, 3), (1,), (0,))


def test_counts_reduce_existing_parts_in_any_order() -> None:
    owner = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    how = Split(unit="image", counts=(10, 3, 4))
    division = divide("omc", images(NAMES, owner=owner), how, 0)
    assert [len(division.train), len(division.val), len(division.test)] == [10, 3, 4]
    assert set(division.train) <= set(range(60))
    assert set(division.val) <= set(range(60, 80))
    assert set(division.test) <= set(range(80, 100))
    assert division.train != tuple(range(10))  # drawn, not the first ones
    turned = divide("omc", images(NAMES[::-1], owner=owner[::-1]), how, 0)
    assert turned.digest(NAMES[::-1]) == division.digest(NAMES)


def test_all_images_of_a_dataset_to_test_on_are_tested_whatever_the_counts() -> None:
    how = Split(unit="image", counts=(10, 3, 4))
    assert divide("omc", images("abcdefg", owner=["test"] * 7), how, 0) == Division((), (), tuple(range(7)))


def test_counts_beyond_existing_parts_are_refused() -> None:
    with pytest.raises(UserError, match=r"omc: val/ holds 1 image, but split\.counts \(1, 2, 1\) asks for 2"):
        divide("omc", images("abc", owner=["train", "val", "test"]), Split(unit="image", counts=(1, 2, 1)), 0)


def test_split_equals_earlier_studies() -> None:
    # Made before tiles and blocks: a study that is under way keeps its test.
    names, groups = frames(12, 3)
    assert split(names, GROUP, groups, 5).digest(names) == "6cb24df7b0ffdbfd"
    assert split(names, IMAGE, groups, 5).digest(names) == "53764f12f7100b9f"
    counted = split(names, Split(unit="group", counts=(7, 4, 2)), groups, 5)
    assert counted.digest(names) == "75056df88bd0004f"


def test_lists_are_the_sorted_names_of_each_part() -> None:
    assert Division((0, 3), (1,), ()).lists(["d", "c", "b", "a"]) == {"train": ["a", "d"], "val": ["c"], "test": []}


@given(
    # Three clusters of three images leave at least four of ten frames.
    chosen=st.permutations(range(30)).map(lambda order: [order[:3], order[3:6], order[6:9]]),
    unit=st.sampled_from(["image", "group"]),
    seed=st.integers(0, 1000),
)
def test_similar_images_are_never_in_two_parts(chosen: list[list[int]], unit: str, seed: int) -> None:
    names, groups = frames(10, 3)
    tiles = alike(images(names, groups), *([names[index] for index in members] for members in chosen))
    division = divide("omc", tiles, TOGETHER[unit], seed)
    part = parts(division, [tile.name for tile in tiles])
    assert len(part) == len(tiles)
    by_cluster = {(tile.cluster, part[tile.name]) for tile in tiles if tile.cluster}
    assert len(by_cluster) == len({cluster for cluster, _ in by_cluster})
    if unit == "group":
        by_group = {(tile.group, part[tile.name]) for tile in tiles}
        assert len(by_group) == len({group for group, _ in by_group})
    mixed = shuffled(tiles, seed)
    assert parts(divide("omc", mixed, TOGETHER[unit], seed), [tile.name for tile in mixed]) == part


def test_chains_of_frames_and_similar_images_are_one_unit() -> None:
    # a0~b1, b0~c1, c0~d1: frames a to d hang together although a and d share nothing.
    tiles = images([f"{f}{t}" for f in "abcdefghij" for t in range(2)], [f for f in "abcdefghij" for _ in range(2)])
    tiles = alike(tiles, ["a0", "b1"], ["b0", "c1"], ["c0", "d1"])
    for seed in range(20):
        part = parts(divide("omc", tiles, TOGETHER["group"], seed), [tile.name for tile in tiles])
        assert len({part[f"{f}{t}"] for f in "abcd" for t in range(2)}) == 1
        assert Counter(part.values())["train"] < 20


def test_unit_is_drawn_by_its_smallest_name() -> None:
    tiles = alike(images(NAMES), ["image090", "image007", "image050"])
    alone = [name for name in NAMES if name not in ("image050", "image090")]
    for seed in range(10):
        expected = parts(split(alone, IMAGE, seed=seed), alone)
        expected |= dict.fromkeys(("image050", "image090"), expected["image007"])
        assert parts(divide("omc", tiles, TOGETHER["image"], seed), NAMES) == expected


def test_joining_changes_nothing_without_similar_images() -> None:
    names, groups = frames(12, 3)
    for unit in ("image", "group"):
        assert divide("omc", images(names, groups), TOGETHER[unit], 0) == split(names, Split(unit=unit), groups)


def test_similar_images_may_be_in_two_parts_if_not_joined() -> None:
    tiles = [replace(tile, cluster="all") for tile in images(NAMES)]
    assert divide("omc", tiles, IMAGE, 0) == split(NAMES, IMAGE)


def test_existing_division_is_not_changed() -> None:
    tiles = [replace(tile, cluster="all") for tile in images("abcd", owner=["test", "val", "train", "train"])]
    for how in TOGETHER.values():
        assert divide("omc", tiles, how, 0) == Division((2, 3), (1,), (0,))
    for unit in ("image", "group"):
        counted = [Split(unit=unit, counts=(1, 1, 1), near_duplicates=near) for near in ("apart", "together")]
        assert divide("omc", tiles, counted[0], 3) == divide("omc", tiles, counted[1], 3)


def test_too_few_units_after_joining_are_refused_with_both_settings() -> None:
    names, groups = frames(8, 3)
    tiles = alike(images(names, groups), [name for name in names if name.endswith("c0")][:-1])
    with pytest.raises(UserError, match=r"2 units, left of 8 groups after near-duplicates were joined") as caught:
        divide("omc", tiles, TOGETHER["group"], 0)
    assert "--set split.near_duplicates=apart" in str(caught.value)
    assert "--set split.unit=image" in str(caught.value)
    how = Split(unit="group", near_duplicates="together", counts=(4, 4, 4))
    with pytest.raises(UserError, match=r"24 images in 2 units, left of 8 .* cannot fill split\.counts") as caught:
        divide("omc", tiles, how, 0)
    assert "--set split.near_duplicates=apart" in str(caught.value)


def test_joined_images_are_refused_without_a_finer_unit() -> None:
    tiles = [replace(tile, cluster="all") for tile in images(NAMES)]
    with pytest.raises(UserError, match=r"1 unit, left of 100 images after near-duplicates") as caught:
        divide("omc", tiles, TOGETHER["image"], 0)
    assert "--set split.near_duplicates=apart" in str(caught.value)
    assert "split.unit" not in str(caught.value)


def follow(advice: str, settings: Split) -> list[Split]:
    """Return the settings after each way out that a message tells."""
    ways = [re.findall(r"--set split\.(\w+)=([^ ,]+)", way) for way in advice.split("; or ")]
    values = {"none": None, "0.01": 0.01}
    return [settings.model_copy(update={name: values.get(value, value) for name, value in way}) for way in ways if way]


def test_blocks_are_not_advised_for_tiles_that_overlap() -> None:
    with pytest.raises(UserError) as caught:
        divide("omc", grid("a", 13, 15), GROUP, 0, partial=True)
    assert "split.unit=block" not in str(caught.value)
    assert "split.unit=image" in str(caught.value)


@pytest.mark.parametrize(
    ("tiles", "how", "first"),
    [
        (lambda: grid("a", 13, 15), Split(unit="group", counts=(48, 8, 8)), {"unit": "block"}),
        (lambda: grid("a", 13, 15), Split(unit="group"), {"unit": "block"}),
        (lambda: grid("a", 6, 6), Split(unit="group", counts=(48, 8, 8)), {"counts": None, "unit": "block"}),
        (lambda: grid("a", 2, 2), Split(unit="group", counts=(48, 8, 8)), {"counts": None, "unit": "image"}),
        (lambda: grid("a", 6, 13), Split(unit="group", counts=(60, 8, 8)), {"counts": None, "unit": "block"}),
        (lambda: grid("a", 2, 2), Split(unit="block"), {"unit": "image"}),
        (lambda: [tile for name in "abc" for tile in grid(name, 2, 2)], Split(unit="block"), {"unit": "group"}),
        (lambda: images(NAMES[:20]), Split(unit="image", counts=(48, 8, 8)), {"counts": None}),
        (
            lambda: images("abcd", owner=["test", "val", "train", "train"]),
            Split(unit="group", counts=(4, 1, 1)),
            {"counts": None},
        ),
        (
            lambda: alike(images(NAMES), NAMES[:99]),
            Split(unit="image", near_duplicates="together"),
            {"near_duplicates": "apart"},
        ),
        (lambda: [replace(tile, labelled=0.05) for tile in images(NAMES)], Split(unit="image"), {"min_labelled": 0.01}),
    ],
)
def test_every_suggested_remedy_works(tiles: Callable[[], list[Tile]], how: Split, first: dict[str, object]) -> None:
    with pytest.raises(UserError) as caught:
        divide("omc", tiles(), how, 0)
    ways = follow(str(caught.value).partition(": use ")[2], how)
    assert ways[0] == how.model_copy(update=first)
    for changed in ways:
        assert divide("omc", tiles(), changed, 0).test
