"""Reading GDS and OASIS: whole files as they are, broken ones as one message, whatever gdstk makes of them."""

from __future__ import annotations

import gzip
import multiprocessing
import multiprocessing.spawn
import random
import struct
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import gdstk
import numpy as np
import pytest

from benchmark.data.layouts import gds
from benchmark.utils.errors import UserError
from tests.benchmark.data.layouts.layout_makers import LAYERS, TRACK, bus, jumble, library, rectangle, save

CHOSEN = gds.parse_layers("68/20,67/44")


@pytest.mark.parametrize("suffix", [".gds", ".oas"])
def test_file_is_read_in_separate_process(suffix: str, tmp_path: Path) -> None:
    chip = gds.read(bus(tmp_path / f"bus.top{suffix}"), CHOSEN)
    assert chip.hierarchy.cells[chip.top].name == "bus"
    assert chip.hierarchy.boxes[chip.top].tolist() == [0, 0, 40_000, 199 * 400 + 160]
    assert not chip.notes
    polygons = chip.hierarchy.polygons(chip.top, (0, 0, 40_000, 1000))
    assert len(polygons["track"]) == 3
    assert len(polygons["via"]) == 3 * 20
    if suffix == ".gds":
        assert (np.concatenate(polygons["via"]) % 10 == 0).all()  # no dust from the file's floating-point unit


def test_units_come_from_the_file(tmp_path: Path) -> None:
    """A micrometre is one, whether a file counts in micrometres, nanometres or half nanometres."""
    for unit, precision in ((1e-6, 1e-9), (1e-9, 1e-9), (1e-6, 5e-10)):
        lib = gdstk.Library(unit=unit, precision=precision)
        cell = gdstk.Cell("top")
        cell.add(gdstk.rectangle((0, 0), (1e-6 / unit, 3e-6 / unit), *TRACK))
        lib.add(cell)
        lib.write_gds(tmp_path / "unit.gds")
        chip = gds.read(tmp_path / "unit.gds", {TRACK: "track"})
        (polygon,) = chip.hierarchy.polygons(chip.top, (0, 0, 10, 10))["track"]
        assert sorted(map(tuple, polygon.tolist())) == [(0, 0), (0, 3000), (1000, 0), (1000, 3000)]


def test_largest_top_or_named_cell_is_shown(tmp_path: Path) -> None:
    small, large, other = gdstk.Cell("small"), gdstk.Cell("large"), gdstk.Cell("other layers, larger still")
    small.add(rectangle(0, 0, 10, 10))
    large.add(rectangle(0, 0, 100, 10))
    other.add(rectangle(0, 0, 1000, 1000, (1, 0)))
    file = save(library(small, large, other), tmp_path / "tops.gds")
    assert gds.read(file, {TRACK: "track"}).top == 1
    assert gds.read(file, {TRACK: "track"}, "small").top == 0
    with pytest.raises(UserError, match=r"--cell 'smal': not in .*tops\.gds; did you mean 'small'\?"):
        gds.read(file, {TRACK: "track"}, "smal")
    with pytest.raises(UserError, match="cell 'other layers, larger still' holds nothing on layer 68/20"):
        gds.read(file, {TRACK: "track"}, "other layers, larger still")


def test_missing_cell_is_reported(tmp_path: Path) -> None:
    top = gdstk.Cell("top")
    top.add(rectangle(0, 0, 10, 10), gdstk.Reference("macro", (5, 5)))
    chip = gds.read(save(library(top), tmp_path / "missing.gds"), {TRACK: "track"})
    (note,) = chip.notes
    assert "refers to 1 cell that it does not hold: macro" in note


def empty_library(file: Path) -> None:
    library().write_gds(file)


def other_layers(file: Path) -> None:
    cell = gdstk.Cell("top")
    cell.add(rectangle(0, 0, 9, 9, (7, 1)), rectangle(0, 0, 9, 9, (8, 0)), rectangle(0, 0, 9, 9))
    save(library(cell), file)


def empty_cells(file: Path) -> None:
    save(library(gdstk.Cell("top")), file)


def cut_off(file: Path) -> None:
    bus(file)
    file.write_bytes(file.read_bytes()[:-200])


def packed(file: Path) -> None:
    bus(file)
    file.write_bytes(gzip.compress(file.read_bytes()))


def no_unit(file: Path) -> None:
    bus(file)
    content = file.read_bytes()
    at = content.index(b"\x00\x14\x03\x05")  # record UNITS: two eight-byte reals
    file.write_bytes(content[: at + 4] + bytes(16) + content[at + 20 :])


def folder(file: Path) -> None:
    file.mkdir()


BROKEN = {
    "no such file": (lambda file: None, r"cannot be read \(No such file"),
    "folder": (folder, r"cannot be read \(Is a directory"),
    "no layout": (lambda file: file.write_bytes(b"hello"), "neither GDS nor OASIS by its content; expected a layout"),
    "nothing": (lambda file: file.write_bytes(b""), "neither GDS nor OASIS"),
    "packed": (packed, r"neither GDS nor OASIS by its content \(it is compressed: unpack it\)"),
    "no cells": (empty_library, "holds no cell"),
    "empty cells": (empty_cells, "nothing on layer 67/44, 68/20; expected layers .* which are none"),
    "other layers": (other_layers, "nothing on layer 67/44; expected layers .* 7/1, 8/0, 68/20: correct --layers"),
    "cut off": (cut_off, "cannot be read as GDS"),
    "no unit": (no_unit, "a grid of 0 m"),
}


@pytest.mark.parametrize(("make", "message"), BROKEN.values(), ids=list(BROKEN))
def test_broken_files_give_one_message(make, message: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    file = tmp_path / "broken.gds"
    make(file)
    with pytest.raises(UserError, match=message) as caught:
        gds.read(file, CHOSEN)
    assert str(file) in str(caught.value)


def test_crash_of_reader_gives_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gds, "ProcessPoolExecutor", ProcessPoolExecutor)
    monkeypatch.setattr(gds, "parse", _crash)
    with pytest.raises(UserError, match=r"bus\.gds: gdstk crashed on it"):
        gds.read(bus(tmp_path / "bus.gds"), CHOSEN)


@pytest.mark.parametrize("suffix", [".gds", ".oas"])
def test_paths_without_length_are_dots(suffix: str, tmp_path: Path) -> None:
    top = gdstk.Cell("top")
    for number, ends in enumerate(["extended", "round", "flush", (100, 200)]):
        at = (1000 * number, 0)
        top.add(gdstk.FlexPath([at, at], 60, ends=ends, simple_path=True, layer=68, datatype=20))
    top.paths[0].repetition = gdstk.Repetition(columns=1, rows=2, spacing=(0, 1000))
    chip = gds.read(save(library(top), tmp_path / f"dots{suffix}"), {TRACK: "track"})
    dots = chip.hierarchy.polygons(chip.top, (-1000, -1000, 5000, 2000))["track"]
    boxes = {(*dot.min(axis=0).round(), *dot.max(axis=0).round()) for dot in dots}
    squares = {(-30.0, -30.0, 30.0, 30.0), (-30.0, 970.0, 30.0, 1030.0)}
    disc = {(970.0, -30.0, 1030.0, 30.0)} if suffix == ".gds" else set()  # OASIS has no round ends
    assert boxes == squares | disc | {(2900.0, -30.0, 3200.0, 30.0)}


def test_failed_process_start_does_not_blame_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gds, "ProcessPoolExecutor", ProcessPoolExecutor)
    file = bus(tmp_path / "bus.gds")
    python = multiprocessing.spawn.get_executable()
    multiprocessing.set_executable("/bin/false")
    try:
        with pytest.raises(UserError, match=r"bus\.gds: the process that reads it ended before it opened the file"):
            gds.read(file, CHOSEN)
    finally:
        multiprocessing.set_executable(python)


def _crash(*_: object) -> None:
    import ctypes

    ctypes.string_at(0)


def test_too_many_corners_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gds, "MOST_POINTS", 7)
    with pytest.raises(UserError, match="more than 7 corners"):
        gds.parse(bus(tmp_path / "bus.gds"), CHOSEN)


def mutated(content: bytes, seed: int) -> bytes:
    """Overwrite, remove or double a few bytes or records."""
    rng = random.Random(seed)
    data = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(data))
        kind = rng.randrange(5)
        if kind == 0:
            data[at] = rng.randrange(256)
        elif kind == 1:
            data[at : at + 4] = struct.pack(">I", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000]))
        elif kind == 2:
            del data[at + 1 : at + rng.randint(2, 40)]
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 200)]
        else:
            del data[at + 1 :]
    return bytes(data)


SCRIPT = """
import sys
from pathlib import Path
from benchmark.data.layouts import gds
from benchmark.data.layouts.cells import Hierarchy
from benchmark.utils.errors import UserError
for name in sys.argv[1:]:
    try:
        hierarchy = Hierarchy(gds.parse(Path(name), {(68, 20): "track", (67, 44): "via"}).cells, name)
        for top in hierarchy.tops():
            hierarchy.polygons(top, (0, 0, 3000, 3000))
    except UserError:
        pass
    print(name, flush=True)
"""


def assert_survives(files: list[Path]) -> int:
    """Read files one after another; a new process takes over behind one that ends the process. Returns how many do."""
    crashes, left = 0, list(map(str, files))
    while left:
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, *left], capture_output=True, text=True, errors="replace", timeout=200
        )
        read = done.stdout.count("\n")
        assert "Traceback" not in done.stderr, done.stderr[-2000:]
        crashes += read < len(left)
        left = left[read + 1 :]
    return crashes


def fuzzed(tmp_path: Path, suffix: str, count: int) -> list[Path]:
    sources = [bus(tmp_path / f"bus{suffix}", lines=3), save(jumble(1), tmp_path / f"jumble{suffix}")]
    files = []
    for seed in range(count):
        file = tmp_path / f"fuzz{seed}{suffix}"
        file.write_bytes(mutated(sources[seed % 2].read_bytes(), seed))
        files.append(file)
    return files


@pytest.mark.parametrize("suffix", [".gds", ".oas"])
def test_damaged_files_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    """A crash of gdstk is allowed: :func:`benchmark.data.layouts.gds.read` turns it into a message (see above)."""
    assert_survives(fuzzed(tmp_path, suffix, 20))


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".gds", ".oas"])
def test_many_damaged_files_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    assert_survives(fuzzed(tmp_path, suffix, 700))


def test_all_layers_of_mixed_file_are_listed(tmp_path: Path) -> None:
    chip = gds.read(save(jumble(3), tmp_path / "jumble.oas"), gds.parse_layers(LAYERS))
    assert len(chip.hierarchy.cells) == 3
