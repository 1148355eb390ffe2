"""Divisions into blocks of frames, and leakage between parts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmark.config.protocol import Split
from benchmark.data.splits import Division, Leakage, Tile, leakage
from benchmark.utils.errors import UserError
from tests.benchmark.data.tile_makers import (
    BLOCK,
    GROUP,
    NAMES,
    TOGETHER,
    alike,
    divide,
    grid,
    images,
    parts,
    shuffled,
    split,
)


def stripe_string(tiles: Sequence[Tile], division: Division, frame: str, axis: str) -> str:
    """Return one letter per stripe of a frame: t(rain), v(al), T(est) or - for a gap; fails where a stripe is mixed."""
    part = parts(division, [tile.name for tile in tiles])
    letters = {"train": "t", "val": "v", "test": "T", None: "-"}
    stripes: dict[int, set[str]] = {}
    for tile in tiles:
        if tile.group == frame:
            stripes.setdefault(getattr(tile, axis), set()).add(letters[part.get(tile.name)])
    assert all(len(letters_of_stripe) == 1 for letters_of_stripe in stripes.values())
    return "".join(min(stripes[place]) for place in sorted(stripes))


@given(
    sides=st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), min_size=1, max_size=4),
    shares=st.sampled_from([(0.1, 0.1), (0.0, 0.1), (0.1, 0.0), (0.0, 0.0), (0.45, 0.45), (0.9, 0.05), (0.3, 0.2)]),
    seed=st.integers(0, 1000),
)
def test_blocks_are_stripes_with_gaps_of_one_tile(
    sides: list[tuple[int, int]], shares: tuple[float, float], seed: int
) -> None:
    how = Split(unit="block", validation=shares[0], test=shares[1])
    expected = [part for part, share in zip("Tv", shares[::-1], strict=True) if share]
    needed = 1 + 2 * len(expected)
    tiles = [tile for number, side in enumerate(sides) for tile in grid(f"f{number}", *side)]
    assume(len(tiles) > len(sides))  # otherwise images are drawn whole
    if min(max(side) for side in sides) < needed:
        with pytest.raises(UserError, match=rf"split\.unit=block needs {needed} stripes"):
            divide("omc", tiles, how, seed)
        return
    division = divide("omc", tiles, how, seed)
    for number, (rows, columns) in enumerate(sides):
        across = stripe_string(tiles, division, f"f{number}", "column" if columns > rows else "row")
        runs = "".join(letter for letter, _ in groupby(across))
        assert "-".join([*expected, "t"]) in (runs, runs[::-1])
        assert across.count("-") == len(expected)
        usable = len(across) - len(expected)
        for part, share in zip("vT", shares, strict=True):
            if share and sum(shares) < 0.5:
                assert across.count(part) == min(max(round(share * usable), 1), usable - len(expected))
    assert leakage(tiles, division).neighbours == (0, 0)
    mixed = shuffled(tiles, seed)
    names, others = [tile.name for tile in tiles], [tile.name for tile in mixed]
    assert divide("omc", mixed, how, seed).digest(others) == division.digest(names)


def test_images_that_are_frames_of_one_tile_are_drawn_whole() -> None:
    whole = Split(unit="block", validation=0.2, test=0.2)
    names = [f"image{number}" for number in range(10)]
    division = split(names, whole)
    assert [len(part) for part in (division.train, division.val, division.test)] == [6, 2, 2]
    assert division == split(names, whole.model_copy(update={"unit": "group"}))
    with pytest.raises(UserError, match=r"block needs 5 stripes .* frame 'a' has 1; a smaller input.size makes more"):
        divide("omc", [*grid("a", 1, 1), *grid("b", 1, 8)], whole, 0)


def test_known_division_of_a_frame() -> None:
    tiles = grid("f", 2, 12)
    seen = {stripe_string(tiles, divide("hy5syn", tiles, BLOCK, seed), "f", "column") for seed in range(20)}
    assert seen == {"T-v-tttttttt", "tttttttt-v-T"}


def test_frames_have_separate_orientations() -> None:
    tiles = [tile for number in range(12) for tile in grid(f"f{number}", 6, 6)]
    division = divide("hy5syn", tiles, BLOCK, 0)
    assert len({stripe_string(tiles, division, f"f{number}", "row") for number in range(12)}) == 2


def test_counts_reduce_blocks() -> None:
    tiles = grid("f", 8, 16)
    counts = (20, 5, 7)
    division = divide("hy5syn", tiles, Split(unit="block", counts=counts), 0)
    assert [len(division.train), len(division.val), len(division.test)] == list(counts)
    assert leakage(tiles, division).neighbours[1] == 0
    mixed = shuffled(tiles, 1)
    again = divide("hy5syn", mixed, Split(unit="block", counts=counts), 0)
    assert again.digest([t.name for t in mixed]) == division.digest([t.name for t in tiles])
    with pytest.raises(
        UserError, match=r"hy5syn: the train stripes hold \d+ images, but split\.counts .* asks for 100"
    ):
        divide("hy5syn", tiles, Split(unit="block", counts=(100, 5, 7)), 0)


def test_too_few_stripes_are_refused_with_frames_found_and_needed() -> None:
    tiles = grid("a", 8, 8) + grid("b", 4, 3) + grid("c", 2, 4)
    with pytest.raises(
        UserError, match=r"split\.unit=block needs 5 stripes .* frame 'b' has 4 \(and 1 more such\)"
    ) as caught:
        divide("hy5syn", tiles, BLOCK, 0)
    assert "--set split.unit=group" in str(caught.value)
    with pytest.raises(UserError, match=r"--set split\.unit=image"):
        divide("hy5syn", grid("b", 4, 3), BLOCK, 0)


def test_files_that_share_a_frame_have_no_stripes() -> None:
    tiles = grid("a", 8, 8) + [replace(tile, name=f"other {tile.name}") for tile in grid("a", 8, 8)]
    with pytest.raises(UserError, match=r"frame 'a' consists of several files"):
        divide("hy5syn", tiles, BLOCK, 0)


def test_images_similar_to_test_block_are_not_trained_on() -> None:
    tiles = alike(grid("f", 2, 12), ["f_r0_c0", "f_r1_c5", "f_r0_c11"])
    names = [tile.name for tile in tiles]
    for seed in range(4):
        before = parts(divide("hy5syn", tiles, BLOCK, seed), names)
        after = parts(divide("hy5syn", tiles, TOGETHER["block"], seed), names)
        end = "f_r0_c0" if before["f_r0_c0"] == "test" else "f_r0_c11"
        assert before.keys() - after.keys() == {"f_r0_c0", "f_r1_c5", "f_r0_c11"} - {end}
        assert after == {name: part for name, part in before.items() if name in after}


def test_block_of_only_similar_images_is_refused() -> None:
    tiles = [replace(tile, cluster="all") for tile in grid("f", 2, 12)]
    with pytest.raises(UserError, match=r"all 2 val images look like .*--set split\.near_duplicates=apart"):
        divide("hy5syn", tiles, TOGETHER["block"], 0)


def test_single_large_frame_suggests_blocks() -> None:
    with pytest.raises(UserError, match=r"1 group cannot be split .*--set split\.unit=block"):
        divide("hy5syn", grid("f", 4, 6), GROUP, 0)
    with pytest.raises(UserError, match=r"--set split\.unit=image") as caught:
        divide("hy5syn", grid("f", 4, 4), GROUP, 0)
    assert "split.unit=block" not in str(caught.value)  # four stripes are too few


def test_single_images_suggest_no_other_unit() -> None:
    with pytest.raises(UserError, match=r"2 groups cannot be split") as caught:
        split(NAMES[:2], GROUP)
    assert "--set split.unit" not in str(caught.value)


def test_leakage_counts_shared_frames_similar_images_and_edges() -> None:
    tiles = alike(grid("a", 1, 4) + grid("b", 1, 2) + grid("c", 1, 1), ["a_r0_c0", "b_r0_c0", "c_r0_c0"])
    #         train: a0 a2, val: a1 b0, test: a3 b1 c0
    division = Division(train=(0, 2), val=(1, 4), test=(3, 5, 6))
    assert leakage(tiles, division) == Leakage(groups=(1, 1), clusters=(1, 1), neighbours=(1, 1))


def test_clean_division_leaks_nothing() -> None:
    tiles = alike(grid("a", 2, 2) + grid("b", 2, 2) + grid("c", 2, 2), ["a_r0_c0", "a_r0_c1"], ["c_r0_c0", "b_r0_c0"])
    division = Division(train=(0, 1, 2, 3), val=(4, 5, 6, 7), test=(8, 9, 10, 11))
    assert leakage(tiles, division) == Leakage((0, 0), (0, 0), (0, 0))


def test_corners_leak_and_gaps_do_not() -> None:
    tiles = grid("f", 3, 3)
    assert leakage(tiles, Division(train=(4,), val=(0,), test=(8,))).neighbours == (1, 1)
    assert leakage(tiles, Division(train=(0, 3, 6), val=(), test=(2, 5, 8))).neighbours == (0, 0)


def test_positions_are_unused_if_files_share_a_frame() -> None:
    tiles = images(["x", "y"], ["frame", "frame"])
    leaks = leakage(tiles, Division(train=(0,), val=(), test=(1,)))
    assert (leaks.groups, leaks.neighbours) == ((0, 1), (0, 0))
