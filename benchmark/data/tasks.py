"""Arranges datasets into tasks: those to train on and those to test on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from benchmark.config.protocol import Protocol
from benchmark.config.targets import is_via
from benchmark.data.datasets import Source
from benchmark.data.specs import KNOWN, known_first
from benchmark.utils.errors import UserError
from benchmark.utils.words import counted

if TYPE_CHECKING:
    from benchmark.data.formats.images import UInt8Array
    from benchmark.data.packs import Pack


@dataclass(frozen=True)
class Task:
    """The datasets that form one training set, and the datasets to test on.

    A test uses a dataset's test part (of the repeat's fold, if there are folds), also if the network was trained on
    other datasets: all figures on a dataset rest on the same images.
    """

    train: tuple[Source, ...]
    test: tuple[Source, ...]

    @property
    def name(self) -> str:
        """The training datasets joined by ``+``, the name of a run's folder."""
        return "+".join(self.train_names)

    @property
    def train_names(self) -> tuple[str, ...]:
        """The names of the training datasets."""
        return tuple(source.name for source in self.train)

    @property
    def test_names(self) -> tuple[str, ...]:
        """The names of the tests: the test datasets, or each of their layers (see :attr:`Source.tests`)."""
        return tuple(test for source in self.test for test in source.tests)

    @property
    def sources(self) -> tuple[Source, ...]:
        """All datasets, each once, training datasets first."""
        return tuple({source.name: source for source in (*self.train, *self.test)}.values())

    @property
    def fingerprint(self) -> str:
        """The fingerprints of all datasets, in order, or of the only dataset."""
        train, test = ("+".join(source.fingerprint for source in part) for part in (self.train, self.test))
        return train if self.train == self.test else f"{train}>{test}"

    def input_size(self, protocol: Protocol) -> int:
        """Return the side of the training's inputs: the smallest of its datasets'; larger images are cropped."""
        return min(protocol.input.size_for(name) for name in self.train_names)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that networks mark, by the names of the first training dataset."""
        return self.train[0].layers

    def channels(self, protocol: Protocol) -> Literal[1, 3]:
        """Return the number of channels of all datasets."""
        return protocol.input.channels_for(self.train_names[0])

    def check(self, protocol: Protocol) -> None:
        """Refuse datasets that do not go together.

        Raises:
            UserError: datasets of vias and of tracks, or of gray and of colour images.
        """
        first, *others = self.sources
        for other in others:
            if list(map(is_via, first.layers)) != list(map(is_via, other.layers)):
                raise UserError(
                    f"{first.name} marks {first.target} and {other.name} {other.target}: a network trained on one is "
                    "wrong on the other by definition; train and test on datasets with the same kinds of layers"
                )
            ours, theirs = (protocol.input.channels_for(source.name) for source in (first, other))
            if ours != theirs:
                raise UserError(
                    f"{first.name} has {counted(ours, 'input channel')} and {other.name} {theirs}; "
                    f"use --set input.channels_by_dataset.{other.base}={ours} or leave one out"
                )


@dataclass(frozen=True)
class DatasetFlags:
    """The flags of ``run`` that name datasets."""

    datasets: str
    train: str | None
    test: str | None
    leave_one_out: bool

    @property
    def names(self) -> str:
        """All names, separated by commas."""
        return ",".join(filter(None, (self.train or self.datasets, self.test)))


def arrange(
    find: Callable[[str], Iterable[Source]], *, datasets: str, train: str | None, test: str | None, leave_one_out: bool
) -> list[Task]:
    """Return the tasks of a call of ``run``.

    Args:
        find: turns a list of names, as ``--datasets`` takes it, into datasets.
        datasets: train on each alone.
        train: train on these together instead; their order does not matter.
        test: test on all of these; by default on the training datasets.
        leave_one_out: leave out each dataset in turn, train on the others together and test on it.

    Raises:
        UserError: flags that exclude each other or name nothing, too few datasets to leave one out, or training on a
            dataset that only has images to test on.
    """
    for flag, names in (("--train", train), ("--test", test)):
        if names is not None and not names.strip(" ,"):
            raise UserError(f"{flag} is empty; expected names of datasets: name some or leave the flag out")
    if train is not None and datasets != "all":
        raise UserError("--train and --datasets: give one; --datasets trains on each dataset by itself")
    if leave_one_out and test is not None:
        raise UserError("--leave-one-out and --test: give one; the dataset left out is what is tested on")
    sources = tuple(find(train or datasets))
    if leave_one_out:
        if len(sources) < 2:
            raise UserError(f"--leave-one-out: found {counted(len(sources), 'dataset')}, expected at least 2")
        return [_task((other for other in sources if other != left), (left,)) for left in sources]
    tests = tuple(find(test)) if test is not None else ()
    if train is not None:
        return [_task(sources, tests or sources)]
    return [_task((source,), tests or (source,)) for source in sources]


def _task(train: Iterable[Source], test: Iterable[Source]) -> Task:
    """Return the task of these datasets, or refuse to train where there is nothing to train on."""
    task = Task(_ordered(train), _ordered(test))
    for source in task.train:
        if source.pairs and all(pair.split == "test" for pair in source.pairs):
            raise UserError(
                f"{source.name}: has test/ but no train/, so no network can be trained on it; name it with --test "
                f"alone, as in `--train omc-syn --test {source.name}`, or add train/ and val/"
            )
    return task


def _ordered(sources: Iterable[Source]) -> tuple[Source, ...]:
    return tuple(sorted(sources, key=lambda source: known_first(source.name, KNOWN)))


def refuse_overlap(task: Task, packs: Mapping[str, Pack], protocol: Protocol) -> None:
    """Refuse a test on images that another dataset trains with: OMV's images, for example, are taken from OMC.

    Stand-ins are drawn from seeds of their own and are not compared.

    Args:
        task: the datasets to train and test on.
        packs: by dataset.
        protocol: divides each dataset.

    Raises:
        UserError: some test images look like training images; names their number and one pair.
    """
    import numpy as np

    from benchmark.data import duplicates  # imports scipy, which takes time and which a plan does not need

    def thumbnails(pack: Pack, indices: Sequence[int]) -> UInt8Array:
        small = [duplicates.thumbnail(pack.images[index]) for index in indices]
        return np.array(small, np.uint8).reshape(-1, duplicates.SIDE, duplicates.SIDE)

    for test in task.test:
        for train in task.train:
            if test.name == train.name or test.synthetic or train.synthetic:
                continue
            ours, theirs = packs[test.name], packs[train.name]
            # Fold by fold, if there are folds: a network is tested on one fold of each dataset.
            divided = zip(ours.divisions(protocol), theirs.divisions(protocol), strict=True)
            parts = [({*mine.test}, {*other.train}) for mine, other in divided]
            tested, trained = (sorted(set().union(*side)) for side in zip(*parts, strict=True))
            alike = duplicates.overlap(thumbnails(ours, tested), thumbnails(theirs, trained))
            pairs = [(tested[image], trained[other]) for image, other in alike]
            if pairs := [(i, j) for i, j in pairs if any(i in held_out and j in seen for held_out, seen in parts)]:
                image, other = pairs[0]
                raise UserError(
                    f"test images of {test.name} that look like training images of {train.name}: "
                    f"{len({i for i, _ in pairs})}, first {ours.tiles[image].name} like {theirs.tiles[other].name}: "
                    "the test would see "
                    f"what was trained on; `data verify {test.name} --against {train.name}` counts them; take them out "
                    "of one dataset"
                )
