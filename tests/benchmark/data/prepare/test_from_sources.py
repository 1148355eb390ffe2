"""Open pictures that a TOML file registers by their sources, and known ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from benchmark.config.protocol import load_protocol
from benchmark.data.check.survey import DatasetFolder
from benchmark.data.check.verify import verify_dataset
from benchmark.data.datasets import choose, names_of_all, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.prepare import open_pictures
from benchmark.data.prepare.prepare import prepare_dataset
from benchmark.data.specs import KNOWN
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save

OPEN = ("t84c", "t84c_poly", "54hc32")


def register(root: Path, *, to: bool = True) -> Path:
    """Write a clone's files and the TOML file of a dataset ``scan`` that is made from them."""
    image = save(root / "copy" / "photos" / "scan.png", picture(0, 96, 160))
    label = save(root / "copy" / "drawn.png", np.where(picture(0, 96, 160) > 127, 255, 0).astype(np.uint8))
    lines = []
    for file, path in ((image, "image/scan.png"), (label, "label/scan.png")):
        lines += [
            "[[source]]",
            'address = "https://example.org/chips"',
            f'file = "{file.relative_to(root / "copy").as_posix()}"',
            f'sha256 = "{hashlib.sha256(file.read_bytes()).hexdigest()}"',
            'licence = "CC BY 4.0"',
            *([f'to = "{path}"'] if to else []),
        ]
    (root / "data").mkdir()
    (root / "data" / "scan.toml").write_text("\n".join(lines))
    return root / "copy"


def test_toml_registers_an_open_picture_without_code(tmp_path: Path) -> None:
    copy = register(tmp_path)
    prepared = prepare_dataset("scan", copy, tmp_path / "data")
    assert (prepared.images, prepared.labels, prepared.copied) == (1, 1, 2)
    assert "https://example.org/chips (CC BY 4.0)" in prepared.notes[0]
    assert (prepared.folder / "image/scan.png").read_bytes() == (copy / "photos/scan.png").read_bytes()
    assert prepare_dataset("scan", copy, tmp_path / "data").skipped == 2
    (source,) = resolve("scan", tmp_path / "data", load_protocol("quick"), HashCache(None))
    assert [pair.name for pair in source.pairs] == ["scan"]


def test_changed_files_are_refused_before_and_found_after(tmp_path: Path) -> None:
    copy = register(tmp_path)
    prepared = prepare_dataset("scan", copy, tmp_path / "data")
    spec = choose("scan", tmp_path / "data")["scan"]

    def row() -> tuple[str, str]:
        folder = DatasetFolder("scan", prepared.folder, "track", spec)
        (found,) = (row for row in verify_dataset(folder, load_protocol("quick")).rows if "source files" in row.name)
        return found.value, found.problem

    assert row() == ("0", "")
    save(prepared.folder / "image/scan.png", picture(1, 96, 160))
    assert row() == ("1", "image/scan.png: missing, or another SHA-256")
    with pytest.raises(UserError, match=r"image/scan\.png: exists with other content .* nothing is overwritten"):
        prepare_dataset("scan", copy, tmp_path / "data")
    save(copy / "drawn.png", picture(2))
    with pytest.raises(UserError, match=r"drawn\.png has another content"):
        prepare_dataset("scan", copy, tmp_path / "data")


def test_sources_without_a_destination_are_refused(tmp_path: Path) -> None:
    copy = register(tmp_path, to=False)
    with pytest.raises(UserError, match=r'expected `to`, such as to = "image/scan\.jpg"'):
        prepare_dataset("scan", copy, tmp_path / "data")


def test_open_pictures_are_named_alone_and_one_has_a_stand_in(tmp_path: Path) -> None:
    for names in ("all", "*"):
        assert not {*OPEN} & choose(names, tmp_path).keys()
    assert {*OPEN} <= {*names_of_all(tmp_path)}
    assert {f"{name}-syn" for name in OPEN} & {*names_of_all(tmp_path)} == {"t84c-syn"}
    (source,) = resolve("t84c", tmp_path, load_protocol("quick"), HashCache(None))
    assert source.name == "t84c-syn"
    assert source.synthetic
    for name in OPEN:
        assert KNOWN[name].citation
        assert all(file.licence and file.commit for file in KNOWN[name].source)
        assert open_pictures.PIXELS[name]
    for name in OPEN[1:]:
        with pytest.raises(UserError, match=rf"{name}: no folder .*`benchmark data prepare {name} COPY` makes it from"):
            resolve(name, tmp_path, load_protocol("quick"), HashCache(None))
        with pytest.raises(UserError, match=f"{name}-syn"):
            choose(f"{name}-syn", tmp_path)


def test_missing_source_of_an_open_picture_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "clone").mkdir()
    with pytest.raises(UserError, match=r"e4697480ce2a:T84C/imgstore/regblock_modules\.jpg is missing"):
        prepare_dataset("t84c", tmp_path / "clone", tmp_path / "data")
    assert not (tmp_path / "data").exists()
