"""A window's polygons are those that unfolding the whole layout gives, and nothing else is unfolded."""

from __future__ import annotations

import time
from pathlib import Path

import gdstk
import numpy as np
import pytest

from benchmark.data.layouts import cells, gds
from benchmark.data.layouts.cells import Hierarchy, LayoutCell, Placements, Shapes, moved
from benchmark.utils.errors import UserError
from tests.benchmark.data.layouts.layout_makers import LAYERS, TRACK, jumble, library, rectangle, save

CHOSEN = gds.parse_layers(LAYERS)
SQUARE = np.array([(0, 0), (10, 0), (10, 10), (0, 10)], np.float64)


def parsed(file: Path) -> Hierarchy:
    return Hierarchy(gds.parse(file, CHOSEN).cells, str(file))


@pytest.mark.parametrize("suffix", [".gds", ".oas"])
@pytest.mark.parametrize("seed", range(8))
def test_windows_equal_fully_unfolded_layout(seed: int, suffix: str, tmp_path: Path) -> None:
    lib = jumble(seed)
    file = save(lib, tmp_path / f"jumble{suffix}")
    hierarchy = parsed(file)
    (top,) = hierarchy.tops()
    # gdstk's own unfolding, of what it read back: a file holds whole grid steps.
    (unfolded,) = (gdstk.read_oas if suffix == ".oas" else gdstk.read_gds)(file, unit=1e-9).top_level()
    rng = np.random.default_rng(seed)
    left, bottom, right, top_edge = hierarchy.boxes[top]
    merged = {
        layer: gdstk.boolean(unfolded.get_polygons(layer=layer[0], datatype=layer[1]), [], "or") for layer in CHOSEN
    }
    hits = 0
    for _ in range(10):
        x, y = rng.uniform(left - 500, right), rng.uniform(bottom - 500, top_edge)
        window = (x, y, x + 3000, y + 2000)
        frame = [gdstk.rectangle(window[:2], window[2:])]
        polygons = hierarchy.polygons(top, window)
        for layer, role in CHOSEN.items():
            expected = gdstk.boolean(merged[layer], frame, "and")
            ours = gdstk.boolean(polygons.get(role, []), frame, "and")
            difference = sum(polygon.area() for polygon in gdstk.boolean(ours, expected, "xor"))
            area = sum(polygon.area() for polygon in expected)
            assert difference < 20  # nm²: gdstk rounds corners to 1e-3 nm; the least shape has 2500
            hits += area > 0
    assert hits > 5


def test_boxes_equal_gdstk(tmp_path: Path) -> None:
    for seed in range(5):
        file = save(jumble(seed), tmp_path / "jumble.gds")
        hierarchy = parsed(file)
        (unfolded,) = gdstk.read_gds(file, unit=1e-9, filter=set(CHOSEN)).top_level()
        (low, high), (top,) = unfolded.bounding_box(), hierarchy.tops()
        box = hierarchy.boxes[top]
        # Boxes of turned boxes are larger than what they hold, never smaller.
        assert (box[:2] <= np.add(low, 1e-3)).all()
        assert (box[2:] >= np.subtract(high, 1e-3)).all()
        assert (box[2:] - box[:2] <= 1.6 * np.subtract(high, low)).all()


def test_large_array_is_not_unfolded(tmp_path: Path) -> None:
    """A billion squares: a window of nine is found in no time, and one of all of them is refused."""
    square, top = gdstk.Cell("square"), gdstk.Cell("top")
    square.add(rectangle(0, 0, 100, 100))
    top.add(gdstk.Reference(square, (0, 0), columns=32_000, rows=32_000, spacing=(300, 300)))
    hierarchy = parsed(save(library(square, top), tmp_path / "array.gds"))
    begin = time.perf_counter()
    polygons = hierarchy.polygons(1, (3_000_010, 6_000_010, 3_000_690, 6_000_690))
    assert time.perf_counter() - begin < 1
    assert len(polygons["track"]) == 9
    assert np.min(polygons["track"]).item() == 3_000_000
    with pytest.raises(UserError, match="more than 2,000,000 shapes in a window of 9600x9600 µm"):
        hierarchy.polygons(1, (0, 0, 9.6e6, 9.6e6))


def test_stacked_copies_and_slanted_lattices_are_counted() -> None:
    shapes = {"track": Shapes.of([SQUARE])}
    turned = np.array([[[0.0, -1.0], [1.0, 0.0]]])

    def placed(counts: tuple[int, int], *steps: tuple[float, float]) -> Hierarchy:
        placements = Placements(np.array([0]), turned, np.zeros((1, 2)), np.array([counts]), np.array([steps], float))
        return Hierarchy([LayoutCell("square", shapes), LayoutCell("top", {}, placements)], "test")  # type: ignore[arg-type]

    everywhere = (-1e6, -1e6, 1e6, 1e6)
    assert len(placed((7, 1), (0, 0), (0, 0)).polygons(1, everywhere)["track"]) == 7
    assert len(placed((3, 4), (5, 5), (10, 10)).polygons(1, everywhere)["track"]) == 12
    slanted = placed((30, 50), (20, 7), (-9, 31))
    assert len(slanted.polygons(1, everywhere)["track"]) == 1500
    expected = [
        (i, j)
        for i in range(30)
        for j in range(50)
        if 20 * i - 9 * j >= 100 and 20 * i - 9 * j - 10 <= 300 and 7 * i + 31 * j + 10 >= 300 and 7 * i + 31 * j <= 400
    ]
    assert len(slanted.polygons(1, (100, 300, 300, 400))["track"]) == len(expected) > 10


def test_recursive_cells_are_refused(tmp_path: Path) -> None:
    first, second, lonely = gdstk.Cell("first"), gdstk.Cell("second"), gdstk.Cell("lonely")
    first.add(rectangle(0, 0, 9, 9), gdstk.Reference(second))
    second.add(gdstk.Reference(first))
    lonely.add(rectangle(0, 0, 9, 9), gdstk.Reference(lonely))
    for lib in (library(first, second), library(lonely)):
        with pytest.raises(UserError, match="holds itself by way of"):
            parsed(save(lib, tmp_path / "loop.gds"))


def test_deep_and_doubling_cells_are_fast() -> None:
    """Sixty cells, each twice in the next: 2^60 squares in one place, and the window's count stops at the limit."""
    matrix, ones, still = np.tile(np.eye(2), (2, 1, 1)), np.ones((2, 2), int), np.zeros((2, 2, 2))
    held = [LayoutCell("0", {"track": Shapes.of([SQUARE])})]
    held += [
        LayoutCell(f"{i + 1}", {}, Placements(np.array([i, i]), matrix, np.zeros((2, 2)), ones, still))
        for i in range(60)
    ]
    hierarchy = Hierarchy(held, "test")
    assert hierarchy.polygons(60, (20, 20, 30, 30)) == {}
    deep = [LayoutCell("0", {"track": Shapes.of([SQUARE])})]
    one = Placements(np.array([0]), matrix[:1], np.array([[1.0, 0.0]]), ones[:1], still[:1])
    deep += [LayoutCell(f"{i + 1}", {}, Placements(np.array([i]), *list(vars(one).values())[1:])) for i in range(2000)]
    assert np.array_equal(
        Hierarchy(deep, "test").polygons(2000, (0, 0, 9999, 9999))["track"][0], SQUARE + np.array((2000, 0))
    )


def test_exponential_cells_are_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "MOST_SHAPES", 2000)
    matrix, ones, still = np.tile(np.eye(2), (2, 1, 1)), np.ones((2, 2), int), np.zeros((2, 2, 2))
    held = [LayoutCell("0", {"track": Shapes.of([SQUARE])})]
    held += [
        LayoutCell(f"{i + 1}", {}, Placements(np.array([i, i]), matrix, np.zeros((2, 2)), ones, still))
        for i in range(60)
    ]
    with pytest.raises(UserError, match="more than 2,000 shapes"):
        Hierarchy(held, "test").polygons(60, (0, 0, 5, 5))


@pytest.mark.parametrize("far", [1e10, float("nan"), float("inf")])
def test_coordinates_beyond_a_chip_are_refused(far: float) -> None:
    with pytest.raises(UserError, match="reaches 1 m or more"):
        Hierarchy([LayoutCell("far", {"track": Shapes.of([np.array([(0, 0), (far, 0), (0, 1)])])})], "test")


def test_empty_boxes_stay_empty() -> None:
    box = moved(cells.NOTHING[None], np.eye(2)[None], np.ones((1, 2)))
    assert np.array_equal(box[0], cells.NOTHING)
    hierarchy = Hierarchy([LayoutCell("empty", {})], "test")
    assert hierarchy.polygons(0, (0, 0, 1, 1)) == {}


def test_layers_and_roles() -> None:
    assert gds.parse_layers("68/20, 67/44") == {TRACK: "track", (67, 44): "via"}
    assert gds.parse_layers("68") == {(68, 0): "track"}
    assert gds.parse_layers("1/0:via,2/0:track,3/0:track") == {(1, 0): "via", (2, 0): "track", (3, 0): "track"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no layer with tracks"),
        ("68/20,68/20", "68/20 twice"),
        ("68/20:via", "no layer with tracks"),
        ("1,2,3,4", "4 layers without roles"),
        ("68/20:track,67/44", "some have a role and some have none"),
        ("68/20/1", "is no layer"),
        ("-1/0", "is no layer"),
        ("١/0", "is no layer"),
        ("met1", "is no layer"),
        ("68/20:trakc", "did you mean 'track'"),
        ("99999999999/0", "is no layer"),
    ],
)
def test_invalid_layer_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        gds.parse_layers(text)
