"""Writes studies that kept test images and predictions, for tests of panels."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmark.config.protocol import load_protocol
from benchmark.evaluation.counts import count_terms
from benchmark.records.store import Store
from tests.benchmark.report import fake

SIDE = 96
Damage = Callable[[np.ndarray], None]


def layout(number: int) -> np.ndarray:
    """Three bars of 12x80 px, as a pack's mask."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for top in (10, 40, 70):
        mask[top : top + 12, 8:88] = 1
    return np.roll(mask, number, axis=0)


def cut(number: int, width: int = 4) -> Damage:
    def apply(prediction: np.ndarray) -> None:
        prediction[40 + number : 52 + number, 30 : 30 + width] = False

    return apply


def write_npz(file: Path, **arrays: np.ndarray) -> None:
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.getvalue())


def image_names(count: int) -> np.ndarray:
    return np.array([f"{number}.png" for number in range(count)])


def write_images(folder: Path, test: str, masks: Sequence[np.ndarray]) -> None:
    images = np.stack(masks)[..., None] * np.uint8(90) + np.uint8(40)
    file = Store(folder).images_file(test)
    write_npz(file, names=image_names(len(masks)), images=images, masks=np.stack(masks))


def write_result(
    folder: Path,
    model: str,
    predictions: Sequence[np.ndarray],
    masks: Sequence[np.ndarray],
    *,
    repeat: int = 0,
    train: Sequence[str] = ("omc-syn",),
    test: Sequence[str] = ("omc-syn",),
    target: str = "track",
) -> Path:
    """Write a run with the counts of its predictions, and these; return their file."""
    limits = load_protocol("quick").evaluation
    rows = [count_terms(*pair, target, limits) for pair in zip(masks, predictions, strict=True)]
    fake.write_run(folder, model, train, repeat, rows, test=test)
    bits = np.packbits(np.stack(predictions), axis=-1)
    for name in test:
        file = Store(folder).predictions_file(train, model, repeat, name)
        write_npz(file, names=image_names(len(masks)), bits=bits, width=np.array([SIDE]))
    return file


def spoiled(masks: Sequence[np.ndarray], damages: Mapping[int, Damage] = {}) -> list[np.ndarray]:
    """Return the truths as predictions, some of them damaged."""
    predictions = [mask == 1 for mask in masks]
    for number, damage in damages.items():
        damage(predictions[number])
    return predictions


MASKS = [layout(number) for number in range(5)]


def write_study(folder: Path) -> Path:
    """Write five images; of image n, 8 + 2 n columns are missing in one bar, so that the last is hardest."""
    fake.write_protocol(folder)
    write_images(folder, "omc-syn", MASKS)
    damages = {number: cut(number, 8 + 2 * number) for number in range(5)}
    for model in ("eal_icnet", "unet"):
        write_result(folder, model, spoiled(MASKS, damages), MASKS)
    return folder
