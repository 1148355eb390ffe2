"""Folds: each image is in the test of one fold, and what belongs together stays together."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmark.config.protocol import Split, load_protocol
from benchmark.data.check.judgement import judge_split
from benchmark.data.splits import Division, Tile, count_unlabelled, divide, divide_under, leakage
from benchmark.utils.errors import UserError
from tests.benchmark.data.tile_makers import NAMES, alike, frames, images, parts, shuffled

UNITS = st.sampled_from(["image", "group"])


@st.composite
def datasets(draw: st.DrawFn) -> list[Tile]:
    """Frames of unequal numbers of tiles, a few of which look alike or are hardly labelled."""
    sizes = draw(st.lists(st.integers(1, 7), min_size=10, max_size=30))
    names = [f"frame{frame:02d}_{tile}" for frame, size in enumerate(sizes) for tile in range(size)]
    order = draw(st.permutations(names))
    tiles = alike(images(names, [name.partition("_")[0] for name in names]), order[:2], order[2:5])
    hardly = set(order[5:7]) if len(names) > 30 else set()
    return [Tile(**{**vars(tile), "labelled": 0.01 if tile.name in hardly else 1.0}) for tile in tiles]


def settings(folds: int, unit: str = "group", **more: object) -> Split:
    return Split.model_validate({"unit": unit, "near_duplicates": "together", "folds": folds, **more})


def named(divided: tuple[Division, ...], tiles: list[Tile]) -> list[dict[str, str]]:
    return [parts(division, [tile.name for tile in tiles]) for division in divided]


@given(tiles=datasets(), folds=st.integers(2, 5), unit=UNITS, seed=st.integers(0, 2**63 - 1))
def test_folds_partition_the_usable_images_and_units_stay_whole(
    tiles: list[Tile], folds: int, unit: str, seed: int
) -> None:
    how = settings(folds, unit)
    divided = divide("omc", tiles, how, seed)
    assert len(divided) == folds
    usable = [index for index, tile in enumerate(tiles) if tile.labelled >= how.min_labelled]
    assert sorted(index for division in divided for index in division.test) == usable
    assert len(tiles) - len(usable) == count_unlabelled(tiles, how)
    for division in divided:
        assert sorted(division.train + division.val + division.test) == usable
        assert division.train
        assert division.val
        for key in ("group", "cluster") if unit == "group" else ("cluster",):
            part_of = parts(division, [tile.name for tile in tiles])
            sides = {(getattr(tile, key), part_of.get(tile.name)) for tile in tiles if getattr(tile, key)}
            sides = {(name, part) for name, part in sides if part}
            assert len(sides) == len({name for name, _ in sides})


@given(tiles=datasets(), folds=st.integers(2, 5), unit=UNITS, seed=st.integers(0, 1000))
def test_folds_depend_on_the_seed_and_not_on_the_order_of_files(
    tiles: list[Tile], folds: int, unit: str, seed: int
) -> None:
    how = settings(folds, unit)
    mixed = shuffled(tiles, seed)
    assert named(divide("omc", mixed, how, seed), mixed) == named(divide("omc", tiles, how, seed), tiles)


def test_another_seed_gives_other_folds() -> None:
    assert divide("omc", images(NAMES), settings(5), 0) != divide("omc", images(NAMES), settings(5), 1)


@given(sizes=st.lists(st.integers(1, 9), min_size=8, max_size=40), folds=st.integers(2, 8), seed=st.integers(0, 99))
def test_folds_are_as_large_as_whole_units_allow(sizes: list[int], folds: int, seed: int) -> None:
    names = [f"{frame}_{tile}" for frame, size in enumerate(sizes) for tile in range(size)]
    tests = [
        len(division.test)
        for division in divide("omc", images(names, [name.partition("_")[0] for name in names]), settings(folds), seed)
    ]
    assert all(abs(count - len(names) / folds) <= max(sizes) for count in tests)
    if len(set(sizes)) == 1:
        assert max(tests) - min(tests) <= sizes[0]


@given(folds=st.integers(2, 10), seed=st.integers(0, 99))
def test_added_frame_moves_only_frames_beside_the_ends_of_folds(folds: int, seed: int) -> None:
    before = named(divide("omc", images(NAMES), settings(folds), seed), images(NAMES))
    more = images([*NAMES, "new"])
    after = named(divide("omc", more, settings(folds), seed), more)
    fold_of = [
        {name: fold for fold, part in enumerate(side) for name in part if part[name] == "test"}
        for side in (before, after)
    ]
    assert sum(fold_of[0][name] != fold_of[1][name] for name in NAMES) < folds


def test_validation_is_its_share_of_what_is_left_and_another_one_in_each_fold() -> None:
    divided = divide("omc", images(NAMES), settings(5, validation=0.25), 0)
    assert [(len(d.train), len(d.val), len(d.test)) for d in divided] == [(60, 20, 20)] * 5
    validated = Counter(index for division in divided for index in division.val)
    assert set(validated.values()) == {1}
    last = divide("omc", images(NAMES), settings(4, validation=0), 0)
    assert [(len(d.train), len(d.val), len(d.test)) for d in last] == [(75, 0, 25)] * 4


def test_two_folds_leave_a_unit_to_train_on_and_one_to_validate() -> None:
    names, groups = frames(4, 3)
    for division in divide("omc", images(names, groups), settings(2), 0):
        assert [len(division.train), len(division.val), len(division.test)] == [3, 3, 6]


def test_large_units_leave_every_fold_one() -> None:
    names = [*(f"big_{tile}" for tile in range(60)), *(f"{letter}_0" for letter in "abcd")]
    divided = divide("omc", images(names, [name.partition("_")[0] for name in names]), settings(5), 3)
    assert sorted(len(division.test) for division in divided) == [1, 1, 1, 1, 60]


@pytest.mark.parametrize(
    ("count", "how", "message"),
    [
        (
            3,
            settings(5),
            r"omc: found 3 groups but split\.folds=5 needs 5 at least: use --set split\.folds=3, which",
        ),
        (3, settings(2), r"omc: found 3 groups but split\.folds=2 needs 4 at least: use --set split\.folds=none"),
        (
            6,
            settings(3, validation=0.9),
            r"split\.validation=0\.9 of the 4 units beside a fold leaves none .*lower it",
        ),
    ],
)
def test_too_few_units_are_one_message_with_a_remedy_that_works(count: int, how: Split, message: str) -> None:
    names, groups = frames(count, 4)
    with pytest.raises(UserError, match=message) as caught:
        divide("omc", images(names, groups), how, 0)
    for way in str(caught.value).partition(": use ")[2].split("; or "):
        changes = dict(re.findall(r"split\.(\w+)=(\w+)", way))
        fields = {
            name: None if value == "none" else int(value) if value.isdigit() else value
            for name, value in changes.items()
        }
        assert divide("omc", images(names, groups), how.model_copy(update=fields), 0)


def test_joined_look_alikes_count_as_one_unit() -> None:
    with pytest.raises(UserError, match=r"found 2 units, left of 100 images after near-duplicates were joined, but"):
        divide("omc", alike(images(NAMES), NAMES[:99]), settings(4, "image"), 0)


def test_owner_s_division_has_no_folds() -> None:
    tiles = images("abcd", owner=["test", "val", "train", "train"])
    with pytest.raises(UserError, match=r"omc: comes in train/, val/ and test/.*: use --set split\.folds=none"):
        divide("omc", tiles, Split(unit="image", folds=2), 0)


def test_blocks_are_not_advised_to_folds() -> None:
    with pytest.raises(UserError) as caught:
        divide("omc", images([f"a{index}" for index in range(20)], ["a"] * 20), settings(2), 0)
    assert "unit=block" not in str(caught.value)
    assert "unit=image" in str(caught.value)


def test_leaks_are_counted_over_all_folds() -> None:
    names, groups = frames(10, 4)
    tiles = images(names, groups)
    divided = divide("omc", tiles, Split(unit="image", folds=4), 0)
    assert leakage(tiles, *divided).groups[1] == sum(leakage(tiles, division).groups[1] for division in divided) > 30
    protocol = load_protocol("paper", ["split.folds=4"])
    assert (
        "split.unit=group"
        in judge_split("omc", tiles, divide_under("omc", tiles, protocol), protocol)[
            "leakage: frame also trained on"
        ].text
    )
