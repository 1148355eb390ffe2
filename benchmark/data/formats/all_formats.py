"""Lists the label formats, and reads a label in any of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.config.targets import Target
from benchmark.data.formats.coco import CocoFormat
from benchmark.data.formats.label_format import NO_LEGEND, Label, LabelFormat, Legend
from benchmark.data.formats.masks import PIXELS, check_size
from benchmark.data.formats.svg import SvgFormat
from benchmark.utils.errors import UserError

FORMATS: list[LabelFormat] = [PIXELS, SvgFormat(), CocoFormat()]


def format_of_file(file: Path, formats: Sequence[LabelFormat] = FORMATS) -> LabelFormat | None:
    """Return the format of a file by its suffix, if it is one of ``formats``."""
    return next((known for known in formats if file.suffix.lower() in known.suffixes), None)


def format_of(label: Path) -> LabelFormat:
    """Return the format of a label; a label of unknown suffix is read as a mask of pixels."""
    container, single = format_of_file(label.parent), format_of_file(label)
    if container is not None and container.holds_many:
        return container
    return PIXELS if single is None or single.holds_many else single


def label_suffixes(*, many: bool = False) -> frozenset[str]:
    """Return the suffixes of label files; with ``many``, also of files that hold many labels."""
    return frozenset[str]().union(*(known.suffixes for known in FORMATS if many or not known.holds_many))


def read_label(label: Path, target: Target, shape: tuple[int, int], legend: Legend = NO_LEGEND) -> Label:
    """Read a label.

    Args:
        label: its path, as :func:`format_of` takes it.
        target: the layer that counts as foreground in a label of several layers.
        shape: the image's height and width.
        legend: meanings that the dataset's TOML file gives to values and categories.

    Raises:
        UserError: unreadable file, another size than the image's, or content without a known meaning.
    """
    label_format = format_of(label)
    check_size(label, label_format.size(label), shape)
    return label_format.read(label, target, legend)


def read_layers(
    labels: Mapping[str, Path | None], shape: tuple[int, int], legend: Legend = NO_LEGEND
) -> dict[str, Label]:
    """Read several layers' labels, of which some or all may lie in one file.

    Args:
        labels: the path of each layer's label; ``None`` for a layer that is not labelled: all of it is ignored.
        shape: the image's height and width.
        legend: as for :func:`read_label`.

    Raises:
        UserError: as for :func:`read_label`; layers that share a file which does not tell them apart.
    """
    nothing = np.zeros(shape, np.bool_)
    read = {
        layer: Label(nothing, ignored=~nothing) if file is None else read_label(file, layer, shape, legend)
        for layer, file in labels.items()
    }
    for layer, file in labels.items():
        shared = [other for other in labels if labels[other] == file]
        if file is not None and len(shared) > 1 and not read[layer].tells_layers:
            raise UserError(
                f"{file}: found labels that do not tell {' and '.join(shared)} apart; expected SVG, one-hot RGB or "
                "COCO with a category for each, or a folder of masks for each: "
                + ", ".join(f"label_{name}/" for name in shared)
            )
    return read
