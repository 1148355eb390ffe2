from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.config.protocol import load_protocol
from benchmark.data import specs
from benchmark.data.check import contact_sheet
from benchmark.data.datasets import resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.formats.all_formats import read_label
from benchmark.data.formats.label_format import Legend
from benchmark.data.formats.values import Values
from benchmark.data.packs import IGNORED, open_pack
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

GRAY = Values(background=0, foreground=1, ignore=2)
CLASSES = np.arange(48).reshape(6, 8) % 3  # 0 background, 1 foreground, 2 unlabelled


def read(path: Path, values: Values) -> np.ndarray:
    """Return 0, 1 and 2 for background, foreground and ignored pixels."""
    label = read_label(path, "track", (6, 8), Legend(values=values))
    assert label.ignored is not None
    return np.where(label.ignored, 2, label.mask)


def coloured(*colours: tuple[int, int, int]) -> np.ndarray:
    return np.array(colours, np.uint8)[CLASSES]


@pytest.mark.parametrize(
    ("pixels", "values"),
    [
        (CLASSES.astype(np.uint8), {"background": 0, "foreground": 1, "ignore": 2}),
        (np.array([7, 255, 128], np.uint8)[CLASSES], {"background": 7, "foreground": 255, "ignore": 128}),
        (np.array([0, 4095, 300], np.uint16)[CLASSES], {"background": 0, "foreground": 4095, "ignore": 300}),
        (
            coloured((0, 0, 0), (255, 255, 0), (128, 128, 128)),
            {"background": "#000000", "foreground": "#FFFF00", "ignore": "#808080"},
        ),
        (coloured((0, 0, 0), (255, 255, 0), (9, 9, 9)), {"background": 0, "foreground": "#ffff00", "ignore": [9, 8]}),
    ],
)
def test_masks_are_read_by_declared_values(tmp_path: Path, pixels: np.ndarray, values: dict) -> None:
    np.testing.assert_array_equal(read(save(tmp_path / "m.png", pixels), Values(**values)), CLASSES)


def test_palette_counts_by_index_or_by_colours_as_listed(tmp_path: Path) -> None:
    created = Image.fromarray(CLASSES.astype(np.uint8)).convert("P")
    created.putpalette([0, 0, 0, 255, 255, 0, 255, 0, 255])
    created.save(tmp_path / "m.png")
    np.testing.assert_array_equal(read(tmp_path / "m.png", GRAY), CLASSES)
    by_colour = Values(background=0, foreground="#ffff00", ignore="#ff00ff")
    np.testing.assert_array_equal(read(tmp_path / "m.png", by_colour), CLASSES)


def test_undeclared_value_is_refused_by_name(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.where(CLASSES == 2, 9, CLASSES).astype(np.uint8))
    with pytest.raises(
        UserError, match=r"m\.png: 16 pixels of mask values \{9\}; expected .*foreground = 1, ignore = 2"
    ):
        read(path, GRAY)
    path = save(tmp_path / "m.png", coloured((0, 0, 0), (1, 1, 1), (255, 255, 0)))
    with pytest.raises(UserError, match=r"16 pixels of mask values \{\(255, 255, 0\)\}"):
        read(path, GRAY)
    Image.fromarray(CLASSES.astype(np.uint8)).save(tmp_path / "m.jpg")
    with pytest.raises(UserError, match=r"m\.jpg: a JPEG, whose loss changes values"):
        read(tmp_path / "m.jpg", GRAY)
    path = save(tmp_path / "m.png", np.stack([CLASSES, 255 * (CLASSES > 0)], -1).astype(np.uint8))
    with pytest.raises(UserError, match=r"m\.png: transparent pixels"):
        read(path, GRAY)


@pytest.mark.parametrize(
    ("pixels", "example"),
    [
        (CLASSES.astype(np.uint8), "background = 0, foreground = 1, ignore = 2"),
        (np.where(CLASSES, 9, 0).astype(np.uint8), "background = 0, foreground = 9"),
        ((CLASSES + CLASSES[::-1]).astype(np.uint8), "background = 0, foreground = [1, 2, 3, 4]"),
        (coloured((0, 0, 0), (255, 255, 0), (255, 255, 0)), 'background = 0, foreground = "#ffff00"'),
        (coloured((0, 0, 0), (255, 255, 0), (0, 0, 255)), 'background = 0, foreground = "#0000ff", ignore = "#ffff00"'),
    ],
)
def test_refusal_of_other_values_suggests_valid_toml(tmp_path: Path, pixels: np.ndarray, example: str) -> None:
    path = save(tmp_path / "m.png", pixels)
    with pytest.raises(UserError, match=r"below \[values\] in the dataset's TOML file") as caught:
        read_label(path, "track", (6, 8))
    assert str(caught.value).endswith(f"such as {example}")
    file = tmp_path / "chip.toml"
    file.write_text(
        "[values]\n" + str(caught.value).partition("such as ")[2].replace(", f", "\nf").replace(", i", "\ni")
    )
    values = specs.load(file).values
    assert values is not None
    assert read(path, values).any()


def test_many_values_suggest_a_threshold(tmp_path: Path) -> None:
    path = save(tmp_path / "m.png", np.arange(48, dtype=np.uint8).reshape(6, 8))
    with pytest.raises(UserError, match="threshold or recolour the mask first"):
        read_label(path, "track", (6, 8))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("background = 0", r"values\.foreground: Field required"),
        ("background = 0\nforeground = []", r"values\.foreground: "),
        ("background = 0\nforeground = 0", "values: 0 is listed twice"),
        ("background = 0\nforeground = '#000000'", "values: 0 is listed twice"),
        ("background = 0\nforeground = 'yellow'", r"values\.foreground: expected values .*found 'yellow'"),
        ("background = 0\nforeground = true", r"values\.foreground: expected values .*found True"),
        ("background = 0\nforeground = 70000", r"values\.foreground: expected values .*found 70000"),
        ("background = 0\nforegruond = 1", r"no field 'values\.foregruond'.*known: background, foreground, ignore"),
    ],
)
def test_mistakes_in_the_values_table_are_named(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "chip.toml").write_text(f"[values]\n{lines}\n", "utf-8")
    with pytest.raises(UserError, match=rf"chip\.toml: .*{message}"):
        specs.load(tmp_path / "chip.toml")


def test_values_reach_packs_sheets_and_the_fingerprint(tmp_path: Path) -> None:
    protocol = load_protocol("quick", ["input.size=32", "input.tile=64"])
    classes = np.arange(64 * 64).reshape(64, 64) // 64 % 3
    save(tmp_path / "chip/image/a.png", picture(0))
    save(tmp_path / "chip/label/a.png", classes.astype(np.uint8))
    save(tmp_path / "chip/ignore/a.png", (np.indices((64, 64))[1] == 0).astype(np.uint8))
    fingerprints = set()
    for values in ("background = 0\nforeground = 1\nignore = 2", "background = [0, 2]\nforeground = 1"):
        (tmp_path / "chip.toml").write_text(f"[values]\n{values}\n", "utf-8")
        (source,) = resolve("chip", tmp_path, protocol, HashCache(tmp_path / "hashes.json"))
        fingerprints.add(source.fingerprint)
        pack = open_pack(source, protocol, tmp_path / "cache")
        expected = np.where(classes == 2, IGNORED if "ignore" in values else 0, classes)
        expected[:, 0] = IGNORED
        np.testing.assert_array_equal(pack.masks[0, ..., 0], expected)
        (sample,) = contact_sheet.read_samples(source, 1)
        assert sample.ignore is not None
        np.testing.assert_array_equal(np.where(sample.ignore, IGNORED, sample.mask), expected)
    assert len(fingerprints) == 2
