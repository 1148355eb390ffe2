from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.data.splits import Division, divide
from benchmark.errors import UserError
from benchmark.protocol import Split

IMAGE = Split(unit="image")
GROUP = Split(unit="group")


def split(names: Sequence[str], how: Split, groups: Sequence[str] | None = None, seed: int = 0) -> Division:
    return divide("omc", names, groups or names, [None] * len(names), how, seed)


def parts(division: Division, names: Sequence[str]) -> dict[str, str]:
    return {names[i]: part for part in ("train", "val", "test") for i in getattr(division, part)}


def frames(count: int, tiles: int) -> tuple[list[str], list[str]]:
    names = [f"frame{f}_r0_c{t}" for f in range(count) for t in range(tiles)]
    return names, [name.partition("_")[0] for name in names]


NAMES = [f"image{i:03d}" for i in range(100)]


def test_shares_are_those_asked_for_and_cover_everything_once() -> None:
    found = split(NAMES, IMAGE)
    assert [len(found.train), len(found.val), len(found.test)] == [80, 10, 10]
    assert sorted(found.train + found.val + found.test) == list(range(100))
    assert list(found.train) == sorted(found.train)


def test_another_seed_gives_another_test() -> None:
    assert split(NAMES, IMAGE).test != split(NAMES, IMAGE, seed=1).test
    assert split(NAMES, IMAGE) == split(NAMES, IMAGE)


@settings(max_examples=30, deadline=None)
@given(order=st.permutations(NAMES[:30]), seed=st.integers(0, 2**63 - 1))
def test_the_order_of_images_does_not_matter(order: list[str], seed: int) -> None:
    names = NAMES[:30]
    assert parts(split(order, IMAGE, seed=seed), order) == parts(split(names, IMAGE, seed=seed), names)
    assert split(order, IMAGE, seed=seed).digest(order) == split(names, IMAGE, seed=seed).digest(names)


def test_an_added_image_displaces_at_most_one_image_per_part() -> None:
    before = parts(split(NAMES, IMAGE), NAMES)
    more = [*NAMES, "new"]
    after = parts(split(more, IMAGE), more)
    assert sum(before[name] != after[name] for name in NAMES) <= 2


def test_the_digest_tells_divisions_apart() -> None:
    digests = {split(NAMES, IMAGE, seed=seed).digest(NAMES) for seed in range(5)}
    assert len(digests) == 5


@settings(max_examples=50, deadline=None)
@given(
    frame_count=st.integers(3, 40),
    tiles=st.integers(1, 12),
    counts=st.none() | st.tuples(st.integers(1, 40), st.integers(0, 12), st.integers(0, 12)),
    seed=st.integers(0, 1000),
)
def test_no_frame_stands_on_two_sides(
    frame_count: int, tiles: int, counts: tuple[int, int, int] | None, seed: int
) -> None:
    names, groups = frames(frame_count, tiles)
    try:
        found = split(names, Split(unit="group", counts=counts), groups, seed)
    except UserError:
        # Whole frames cannot fill the counts; each part wastes less than one frame.
        assert counts is not None
        assert sum(-(-count // tiles) for count in counts) > frame_count
        return
    sides = [{groups[i] for i in part} for part in (found.train, found.val, found.test)]
    assert sum(map(len, sides)) == len(set().union(*sides))
    if counts is not None:
        assert (len(found.train), len(found.val), len(found.test)) == counts


def test_tiles_of_a_frame_may_part_where_images_are_drawn() -> None:
    names, groups = frames(4, 12)
    found = split(names, IMAGE, groups)
    assert {groups[i] for i in found.test} & {groups[i] for i in found.train}


def test_few_frames_still_give_a_validation_and_a_test() -> None:
    names, groups = frames(3, 4)
    found = split(names, GROUP, groups)
    assert [len(found.train), len(found.val), len(found.test)] == [4, 4, 4]


def test_shares_of_zero_leave_a_part_empty() -> None:
    found = split(NAMES, Split(unit="image", validation=0, test=0))
    assert (len(found.train), found.val, found.test) == (100, (), ())


def test_too_few_frames_are_refused_with_the_setting() -> None:
    names, groups = frames(2, 12)
    with pytest.raises(UserError, match=r"omc: 2 group\(s\) cannot be split .*--set split\.unit=image"):
        split(names, GROUP, groups)
    with pytest.raises(UserError, match=r"omc: 24 images in 2 group\(s\) cannot fill") as told:
        split(names, Split(unit="group", counts=(4, 4, 4)), groups)
    assert "--set split.unit=image" in str(told.value)


def test_too_few_images_are_refused_without_a_remedy_that_changes_nothing() -> None:
    with pytest.raises(UserError, match=r"omc: 2 image\(s\) cannot be split") as told:
        split(NAMES[:2], IMAGE)
    assert "split.unit" not in str(told.value)
    with pytest.raises(UserError, match=r"10 images in 10 image\(s\) cannot fill split\.counts \(9, 1, 1\)"):
        split(NAMES[:10], Split(unit="image", counts=(9, 1, 1)))


def test_the_owners_division_is_kept_whole() -> None:
    owner = ["test", "val", "train", "train"]
    for how in (IMAGE, GROUP):
        assert divide("omc", list("abcd"), list("abcd"), owner, how, 0) == Division((2, 3), (1,), (0,))


def test_counts_thin_the_owners_parts_alike_whatever_the_order() -> None:
    owner = ["train"] * 60 + ["val"] * 20 + ["test"] * 20
    how = Split(unit="image", counts=(10, 3, 4))
    found = divide("omc", NAMES, NAMES, owner, how, 0)
    assert [len(found.train), len(found.val), len(found.test)] == [10, 3, 4]
    assert set(found.train) <= set(range(60))
    assert set(found.val) <= set(range(60, 80))
    assert set(found.test) <= set(range(80, 100))
    assert found.train != tuple(range(10))  # drawn, not the first ones
    turned = divide("omc", NAMES[::-1], NAMES[::-1], owner[::-1], how, 0)
    assert turned.digest(NAMES[::-1]) == found.digest(NAMES)


def test_counts_beyond_the_owners_parts_are_refused() -> None:
    with pytest.raises(UserError, match=r"omc: val/ holds 1 images, but split\.counts \(1, 2, 1\) asks for 2"):
        divide("omc", list("abc"), list("abc"), ["train", "val", "test"], Split(unit="image", counts=(1, 2, 1)), 0)
