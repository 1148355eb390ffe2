"""Names targets, the layers that a network marks, such as ``track+via``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator

#: Joins the layers of a target.
JOIN = "+"
#: Stands between a dataset and a layer in the name of a test; no dataset's name has it.
AT = "@"
_LAYER = re.compile(r"[a-z0-9][a-z0-9_-]*")


def checked(target: str) -> str:
    """Return a target whose layers have plain names, each once.

    Raises:
        ValueError: says what is wrong.
    """
    layers = target.split(JOIN)
    for layer in layers:
        if not _LAYER.fullmatch(layer):
            raise ValueError(
                f"layer {layer!r}; expected names of a-z, 0-9, _ and - joined by +, such as track or track+via"
            )
    if len(set(layers)) < len(layers):
        raise ValueError(f"{target!r} names a layer twice; expected each once")
    return target


Target = Annotated[str, AfterValidator(checked)]


def layers_of(target: str) -> tuple[str, ...]:
    """Return a target's layers, in the order of a network's logits."""
    return tuple(target.split(JOIN))


def is_via(layer: str) -> bool:
    """Return whether a layer's foreground are vias or contacts (``via``, ``via2``, ``contact``), which join nets."""
    return layer.startswith(("via", "contact"))


def tests_of(dataset: str, target: str) -> Mapping[str, str]:
    """Return the layer of each test of a dataset, by the test's name in records, tables and files.

    A single layer is tested under the dataset's name; of several, each is a test of its own, as ``omc@via``.
    """
    layers = layers_of(target)
    return {dataset: target} if len(layers) == 1 else {f"{dataset}{AT}{layer}": layer for layer in layers}


def dataset_of(test: str) -> str:
    """Return the dataset of a test."""
    return test.partition(AT)[0]


def is_own(train: tuple[str, ...], test: str) -> bool:
    """Return whether a test is of the only dataset that a network was trained on."""
    return train == (dataset_of(test),)


def layer_of(test: str) -> str | None:
    """Return the layer of a test, ``None`` for a dataset of a single layer."""
    return test.partition(AT)[2] or None
