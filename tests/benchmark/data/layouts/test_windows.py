"""Windows: exact polygons and masks, the same from the same seed, apart from each other, none without metal."""

from __future__ import annotations

from pathlib import Path

import gdstk
import numpy as np
import pytest
from skimage.measure import label

from benchmark.data.formats.rasterize import fill
from benchmark.data.layouts.layout_source import Layout, WindowPosition, open_layout
from benchmark.data.layouts.windows import Window, cut, outlined_area, windows
from benchmark.utils.errors import UserError
from tests.benchmark.data.layouts.layout_makers import LAYERS, TRACK, bus, jumble, library, rectangle, save


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return open_layout(str(bus(tmp_path_factory.mktemp("bus") / "bus.gds")), "68/20,67/44")


def drawn(layout: Layout, count: int, seed: int = 0) -> list[Window]:
    return windows(layout, count, height=96, width=128, nm_per_pixel=10, seed=seed)


def at(layout: Layout, x: float, y: float, height: int, width: int, nm: float) -> Window:
    place = layout.draw(np.random.default_rng(0), height * nm, width * nm)
    return cut(layout, WindowPosition(place.hierarchy, place.top, x, y), 0, height, width, nm)


def test_window_on_the_grid_is_exact(layout: Layout) -> None:
    """Lines of 160 nm every 400 nm from y = 0, contacts of 100 nm every 2000 nm from (500, 30)."""
    window = at(layout, 400, 4000, 100, 200, 10)
    track, via = window.mask("track"), window.mask("via")
    expected = np.zeros((100, 200), bool)
    for line in range(3):  # y grows upwards in the layout and downwards in the image
        expected[100 - 40 * line - 16 : 100 - 40 * line] = True
    assert (track == expected).all()
    assert via.sum() == 3 * 10 * 10
    assert via[100 - 3 - 10 : 100 - 3, 10:20].all()
    assert len(window.polygons["track"]) == 3
    assert sorted(outlined_area(corners)[0] for corners in window.polygons["track"]) == pytest.approx([3200.0] * 3)
    assert outlined_area(window.polygons["via"][0])[1] == pytest.approx((15.0, window.polygons["via"][0][:, 1].mean()))


@pytest.mark.parametrize("seed", range(6))
def test_masks_agree_with_an_unfolded_layout(seed: int, tmp_path: Path) -> None:
    """Area and number of nets against gdstk's own unfolding and merging, at 5 nm per pixel."""
    file = save(jumble(seed), tmp_path / "jumble.gds")
    layout = open_layout(str(file), LAYERS)
    (unfolded,) = gdstk.read_gds(file, unit=1e-9).top_level()
    rng = np.random.default_rng(seed)
    place = layout.draw(rng, 2000, 3000)
    window = at(layout, place.x, place.y, 400, 600, 5)
    frame = [gdstk.rectangle((place.x, place.y), (place.x + 3000, place.y + 2000))]
    merged = gdstk.boolean(unfolded.get_polygons(layer=TRACK[0], datatype=TRACK[1]), frame, "and")
    area = sum(polygon.area() for polygon in merged) / 25
    outline = sum(float(np.hypot(*np.diff(polygon.points, axis=0).T).sum()) for polygon in merged) / 5
    mask = window.mask("track")
    # Each pixel on the outline is right or wrong by at most one; errors of both signs cancel to about the square root.
    assert abs(mask.sum() - area) <= 4 * np.sqrt(outline + 1) + 4
    assert sum(outlined_area(corners)[0] for corners in window.polygons.get("track", ())) == pytest.approx(
        area, abs=0.1
    )
    assert len(window.polygons.get("track", ())) == len(merged)


def test_nets_of_mask_equal_nets_of_polygons(layout: Layout) -> None:
    for window in drawn(layout, 20):
        assert label(window.mask("track"), connectivity=2).max() == len(window.visible) <= len(window.polygons["track"])


@pytest.mark.parametrize(("down", "seen"), [(0, 1), (4, 1), (6, 2), (12, 2)])
@pytest.mark.parametrize("turns", range(4))
def test_invisible_strip_joins_nothing(down: float, seen: int, turns: int, tmp_path: Path) -> None:
    """Two arms on a base of 10 nm, the width of a pixel, of which the border leaves ever less; and a line above."""
    shapes = [rectangle(0, 0, 800, 10), rectangle(0, 0, 100, 500), rectangle(700, 0, 800, 500)]
    shapes += [rectangle(0, 600, 1000, 700), rectangle(-100, -100, -50, -50), rectangle(1050, 1050, 1100, 1100)]
    top = gdstk.Cell("top")
    top.add(*(shape.rotate(turns * np.pi / 2, (500, 500)) for shape in shapes))
    layout = open_layout(str(save(library(top), tmp_path / "arms.gds")), "68/20")
    x, y = [(0, down), (-down, 0), (0, -down), (down, 0)][turns]
    window = at(layout, x, y, 100, 100, 10)
    nets = label(window.mask("track"), connectivity=2)
    assert nets.max() == len(window.visible) == seen + 1
    owners = [np.unique(nets[fill([net], nets.shape)]).tolist() for net in window.visible]
    assert sorted(owners) == [[net] for net in range(1, seen + 2)]


def test_same_seed_gives_same_windows_and_larger_count_appends(layout: Layout) -> None:
    first, again, other = drawn(layout, 6), drawn(layout, 9), drawn(layout, 6, seed=1)
    assert [window.origin_nm for window in first] == [window.origin_nm for window in again[:6]]
    assert not {window.origin_nm for window in first} & {window.origin_nm for window in other}
    for a, b in zip(first, again, strict=False):
        assert all(np.array_equal(p, q) for p, q in zip(a.polygons["track"], b.polygons["track"], strict=True))


def test_windows_depend_on_the_content_and_not_on_the_name(tmp_path: Path) -> None:
    one, two = (open_layout(str(bus(tmp_path / name)), "68/20") for name in ("one.gds", "two.gds"))
    assert one.sha256 == two.sha256
    assert [w.origin_nm for w in drawn(one, 3)] == [w.origin_nm for w in drawn(two, 3)]
    renamed = (tmp_path / "one.gds").rename(tmp_path / "three.gds")
    assert [w.origin_nm for w in drawn(open_layout(str(renamed), "68/20"), 3)] == [w.origin_nm for w in drawn(one, 3)]


def test_windows_of_one_layout_never_overlap(tmp_path: Path) -> None:
    """8 x 12 µm hold 78 windows of 1.28 x 0.96 µm side by side, and about half of that at random places."""
    layout = open_layout(str(bus(tmp_path / "bus.gds", lines=30, length=8000)), "68/20")
    separate = drawn(layout, 30)
    x, y = np.array([window.origin_nm for window in separate]).T
    apart = (abs(x[:, None] - x) >= 1280) | (abs(y[:, None] - y) >= 960)
    assert (apart | np.eye(30, dtype=bool)).all()
    assert x.min() >= 0
    assert x.max() <= 8000 - 1280
    with pytest.raises(UserError, match=r"bus-syn: found places for [34]\d windows .* expected 78: ask for --count"):
        drawn(layout, 78)


def test_windows_without_metal_are_drawn_again(tmp_path: Path) -> None:
    """Two dense corners of an empty chip."""
    top, line = gdstk.Cell("top"), gdstk.Cell("line")
    line.add(rectangle(0, 0, 4000, 160))
    for corner in ((0, 0), (96_000, 96_000)):
        top.add(gdstk.Reference(line, corner, rows=10, columns=1, spacing=(1, 400)))
    layout = open_layout(str(save(library(line, top), tmp_path / "empty.gds")), "68/20")
    separate = windows(layout, 3, height=128, width=128, nm_per_pixel=10)
    for window in separate:
        quarters = [window.mask("track")[y : y + 64, x : x + 64] for y in (0, 64) for x in (0, 64)]
        assert min(quarter.mean() for quarter in quarters) >= 0.03
        assert max(quarter.mean() for quarter in quarters) <= 0.97
    with pytest.raises(UserError, match=r"none of 1000 places shows at least 3\.0% track"):
        windows(layout, 3, height=512, width=512, nm_per_pixel=50)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 63}, "at least 64 pixels a side"),
        ({"seed": -1}, "a seed of 0"),
        ({"count": 0}, "1 image"),
        ({"nm_per_pixel": float("nan")}, "--nm-per-pixel nan: expected 0.1 to 100000"),
        ({"nm_per_pixel": 0}, "--nm-per-pixel 0"),
        ({"nm_per_pixel": float("inf")}, "--nm-per-pixel inf"),
        ({"nm_per_pixel": 1000}, "a window of 96x96 µm is larger than the layout of 40x79.76 µm"),
    ],
)
def test_impossible_windows_are_refused(layout: Layout, change: dict[str, float], message: str) -> None:
    usual = {"count": 1, "height": 96, "width": 96, "nm_per_pixel": 10, "seed": 0}
    with pytest.raises(UserError, match=message):
        windows(layout, **usual | change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("file", "name", "message"),
    [
        ("omc.gds", None, "called 'omc-syn', which is another's name"),
        ("OMC.gds", None, "which is another's name"),
        ("sky130.gds", None, "called 'sky130-syn', which is another's name"),
        ("my chip.gds", None, "expected letters, digits"),
        ("bus.gds", "hy5syn-syn", "which is another's name"),
        ("bus.gds", "bus", "the ending -syn"),
        ("bus.gds", "..-syn", "expected letters, digits"),
    ],
)
def test_names_of_other_datasets_are_refused(file: str, name: str | None, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_layout(str(bus(tmp_path / file)), "68/20", name=name)


def test_invalid_flags_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no --layers; expected LAYER/DATATYPE"):
        open_layout(str(bus(tmp_path / "bus.gds")))
    with pytest.raises(UserError, match="--cell 'inv': sky130 is made of all its cells"):
        open_layout("sky130", cell="inv")


def test_hole_is_background_and_island_is_net(tmp_path: Path) -> None:
    ring = gdstk.boolean([rectangle(0, 0, 1000, 1000)], [rectangle(200, 200, 800, 800)], "not", layer=68, datatype=20)
    top = gdstk.Cell("top")
    top.add(*ring, rectangle(400, 400, 600, 600))
    layout = open_layout(str(save(library(top), tmp_path / "ring.gds")), "68/20")
    window = at(layout, 0, 0, 100, 100, 10)
    mask = window.mask("track")
    assert mask.sum() == 100 * 100 - 60 * 60 + 20 * 20
    assert label(mask, connectivity=2).max() == len(window.polygons["track"]) == 2
    assert sum(outlined_area(corners)[0] for corners in window.polygons["track"]) == pytest.approx(mask.sum())
