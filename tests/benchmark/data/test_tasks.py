"""What a network is trained on and tested on, as the flags say it; and what does not go together."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import Source
from benchmark.data.packs import Pack
from benchmark.data.pairs import Pair
from benchmark.data.splits import Tile
from benchmark.data.tasks import Task, arrange, refuse_overlap
from benchmark.utils.errors import UserError


def source(name: str, target: str = "track") -> Source:
    return Source(name, target, f"<{name}>")  # type: ignore[arg-type]


def find(names: str) -> Iterable[Source]:
    return [source(name) for name in names.split(",")]


def arranged(
    datasets: str = "all", train: str | None = None, test: str | None = None, *, leave_one_out: bool = False
) -> list[tuple[str, tuple[str, ...]]]:
    tasks = arrange(find, datasets=datasets, train=train, test=test, leave_one_out=leave_one_out)
    return [(task.name, task.test_names) for task in tasks]


def test_datasets_are_trained_on_one_by_one_and_training_sets_together() -> None:
    assert arranged("a,b") == [("a", ("a",)), ("b", ("b",))]
    assert arranged("a,b", test="b,c") == [("a", ("b", "c")), ("b", ("b", "c"))]
    assert arranged(train="a,b") == [("a+b", ("a", "b"))]
    assert arranged(train="a,b", test="c") == [("a+b", ("c",))]
    assert arranged("a,b,c", leave_one_out=True) == [("b+c", ("a",)), ("a+c", ("b",)), ("a+b", ("c",))]
    assert arranged(train="a,b", leave_one_out=True) == [("b", ("a",)), ("a", ("b",))]


def test_order_of_names_changes_no_task() -> None:
    assert arranged(train="z,miic-syn,omc-syn,a", test="hy5syn,omc") == [("omc-syn+miic-syn+a+z", ("omc", "hy5syn"))]
    assert arranged(train="miic,omc") == arranged(train="omc,miic")
    assert arranged("hy5syn,miic,omc", leave_one_out=True) == [
        ("omc+miic", ("hy5syn",)),
        ("omc+hy5syn", ("miic",)),
        ("miic+hy5syn", ("omc",)),
    ]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"train": ""}, "--train is empty"),
        ({"train": "a", "test": " ,"}, "--test is empty"),
        ({"datasets": "a", "train": "b"}, "--train and --datasets: give one"),
        ({"datasets": "a,b", "test": "c", "leave_one_out": True}, "--leave-one-out and --test: give one"),
        ({"datasets": "a", "leave_one_out": True}, r"--leave-one-out: found 1 dataset, expected at least 2"),
    ],
)
def test_conflicting_flags_are_refused(flags: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        arranged(**flags)  # type: ignore[arg-type]


def test_dataset_that_only_has_a_test_part_is_not_trained_on() -> None:
    labelled = replace(real("mychip"), pairs=(Pair("a", Path("image"), Path("label"), "test", "a"),))
    sources = {"mychip": labelled, "omc-syn": source("omc-syn")}

    def tasks(**flags: Any) -> list[Task]:
        given = {"datasets": "all", "train": None, "test": None, "leave_one_out": False} | flags
        return arrange(lambda names: [sources[name] for name in names.split(",")], **given)

    assert tasks(train="omc-syn", test="mychip") == [Task((sources["omc-syn"],), (labelled,))]
    for flags in (
        {"datasets": "mychip"},
        {"train": "omc-syn,mychip"},
        {"train": "omc-syn,mychip", "leave_one_out": True},
    ):
        with pytest.raises(UserError, match=r"mychip: has test/ but no train/.* `--train omc-syn --test mychip`"):
            tasks(**flags)


def test_fingerprint_depends_on_added_datasets() -> None:
    a, b = source("a"), source("b")
    tasks = [Task((a,), (a,)), Task((a,), (b,)), Task((a, b), (a, b)), Task((a, b), (b,)), Task((a,), (a, b))]
    assert tasks[0].fingerprint == a.fingerprint
    assert len({task.fingerprint for task in tasks}) == len(tasks)


def test_training_uses_smallest_input_of_its_datasets() -> None:
    paper = load_protocol("paper")
    assert Task((source("hy5syn-syn"),), (source("omc"),)).input_size(paper) == 1024
    assert Task((source("hy5syn-syn"), source("omc")), (source("omc"),)).input_size(paper) == 512


def test_each_layer_of_a_test_set_is_a_test() -> None:
    task = Task((source("a", "track+via"),), (source("b", "track+via"), source("c", "track+via")))
    assert task.test_names == ("b@track", "b@via", "c@track", "c@via")
    assert task.layers == ("track", "via")


def test_mixed_targets_or_channels_are_refused() -> None:
    paper = load_protocol("paper", ["input.channels_by_dataset={omc=3}"])
    Task((source("hy5syn", "metal"),), (source("miic"),)).check(paper)
    with pytest.raises(UserError, match="omv marks via and miic track"):
        Task((source("omv", "via"),), (source("miic"),)).check(paper)
    Task((source("a", "track+via"),), (source("b", "metal+contact"),)).check(paper)
    for target in ("track", "via", "via+track", "track+via+track2"):
        with pytest.raises(UserError, match=r"a marks track\+via and b .*; train and test on .* same kinds of layers"):
            Task((source("a", "track+via"),), (source("b", target),)).check(paper)
    with pytest.raises(UserError, match=r"miic has 1 .* and omc-syn 3; use --set input\.channels_by_dataset\.omc=1"):
        Task((source("miic"),), (source("omc-syn"),)).check(paper)


def real(name: str) -> Source:
    return replace(source(name), pairs=(Pair(name, Path("image"), Path("label"), None, name),))


def pack(name: str, images: np.ndarray) -> Pack:
    tiles = tuple(Tile(f"{name}{index}", f"{name}{index}", None) for index in range(len(images)))
    return Pack(name, "", images, images, tiles)


def test_look_alikes_of_two_datasets_leak_unless_both_are_in_the_same_fold() -> None:
    rng = np.random.default_rng(0)
    images = np.kron(rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8), np.ones((1, 8, 8, 1), np.uint8))
    protocol = load_protocol("paper", ["split.folds=2", "split.validation=0"])
    ours, theirs = real("ours"), real("theirs")
    packs = {"ours": pack("ours", images[:10]), "theirs": pack("theirs", images[10:])}
    for fold, leaks in ((0, False), (1, True)):
        tested, other = packs["theirs"].divide(protocol, 0).test[0], packs["ours"].divide(protocol, fold).test[0]
        shared = images[10:].copy()
        shared[tested] = images[other]
        task, changed = Task((ours,), (theirs,)), packs | {"theirs": pack("theirs", shared)}
        if not leaks:
            refuse_overlap(task, changed, protocol)
            continue
        with pytest.raises(UserError, match=rf"look like .* ours: 1, first theirs{tested} like ours{other}"):
            refuse_overlap(task, changed, protocol)


def test_test_image_of_another_training_set_is_refused() -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
    images = np.kron(coarse, np.ones((1, 8, 8, 1), np.uint8))
    protocol = load_protocol("paper")
    ours, theirs = real("ours"), real("theirs")
    task = Task((ours,), (theirs,))
    packs = {"ours": pack("ours", images[:10]), "theirs": pack("theirs", images[10:])}
    refuse_overlap(task, packs, protocol)
    shared = images[10:].copy()
    tested, taught = packs["theirs"].divide(protocol).test[0], packs["ours"].divide(protocol).train[0]
    shared[tested] = images[:10][taught]
    packs["theirs"] = pack("theirs", shared)
    with pytest.raises(
        UserError, match=rf"test images of theirs that look .* ours: 1, first theirs{tested} like ours{taught}"
    ):
        refuse_overlap(task, packs, protocol)
    refuse_overlap(Task((ours,), (ours,)), packs, protocol)  # a dataset's own split is the split's affair
