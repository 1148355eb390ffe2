"""Windows as images: masks that no effect touches, everything in the manifest, datasets that a study can use."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage.measure import label

from benchmark.config.protocol import load_protocol
from benchmark.data.datasets import choose, resolve
from benchmark.data.fingerprint import HashCache
from benchmark.data.layouts.layout_source import Layout, open_layout
from benchmark.data.layouts.microscope import APPEARANCES, ROUNDING, Appearance, notes, show, write
from benchmark.data.layouts.windows import Window, windows
from benchmark.data.packs import open_pack
from benchmark.data.synthetic import STANDINS
from benchmark.report.tables.conventions import stand_ins
from benchmark.utils.errors import UserError
from tests.benchmark.conftest import SMALL, TINY, Call, settings
from tests.benchmark.data.layouts.layout_makers import LAYERS, bus, jumble, save


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return open_layout(str(bus(tmp_path_factory.mktemp("bus") / "bus.gds")), "68/20,67/44")


@pytest.fixture(scope="module")
def window(layout: Layout) -> Window:
    (window,) = windows(layout, 1, height=128, width=352, nm_per_pixel=10, seed=3)
    return window


@pytest.mark.parametrize("appearance", APPEARANCES)
def test_masks_equal_layout_under_all_effects(window: Window, appearance: str) -> None:
    sample = show(window, Appearance(appearance))
    plain = show(window, Appearance(appearance, off=frozenset({ROUNDING, *STANDINS[appearance].switches()})))
    assert sample.image.shape == ((128, 352, 3) if appearance == "omc" else (128, 352))
    for drawn in (sample, plain):
        assert (drawn.track == window.mask("track")).all()
        assert (drawn.via == window.mask("via") & drawn.track).all()
        assert (drawn.nets == label(drawn.track, connectivity=2)).all()
        assert drawn.window is window
    assert (sample.image != plain.image).any()
    assert sample.image.tobytes() == show(window, Appearance(appearance)).image.tobytes()
    assert sample.image.tobytes() != show(window, Appearance(appearance, seed=1)).image.tobytes()


def test_rounding_corners_keeps_mask(tmp_path: Path) -> None:
    """Of a layout with corners, unlike the straight lines of the other tests."""
    file = save(jumble(1), tmp_path / "jumble.gds")
    (window,) = windows(open_layout(str(file), LAYERS), 1, height=256, width=256, nm_per_pixel=10)
    off = frozenset(STANDINS["miic"].switches())
    sharp, rounded = (show(window, Appearance("miic", off=off | more)) for more in (frozenset({ROUNDING}), frozenset()))
    assert (np.abs(sharp.image.astype(int) - rounded.image) > 30).any()
    for drawn in (sharp, rounded):
        assert (drawn.track == window.mask("track")).all()
        assert (drawn.via == window.mask("via") & drawn.track).all()
        assert (drawn.nets == label(drawn.track, connectivity=2)).all()


def test_tracks_are_brighter_inside_mask(window: Window) -> None:
    """The image shows the mask, not its mirror image or its neighbour."""
    sample = show(window, Appearance("miic", off=frozenset(STANDINS["miic"].switches())))
    plain = sample.track & ~sample.via
    inside = sample.image[plain].astype(int)
    assert np.median(inside) - np.median(sample.image[~sample.track].astype(int)) > 50
    correlation = np.corrcoef(sample.image[~sample.via], sample.track[~sample.via])[0, 1]
    assert correlation > 0.9
    mirrored = np.corrcoef(sample.image.ravel(), sample.track[::-1].ravel())[0, 1]
    assert mirrored < correlation - 0.2


def test_rounding_changes_only_corners(tmp_path: Path, window: Window) -> None:
    off = frozenset(STANDINS["miic"].switches())
    sharp, rounded = (show(window, Appearance("miic", off=off | more)) for more in (frozenset({ROUNDING}), frozenset()))
    sigma = rounded.manifest["effects"][ROUNDING]["sigma_px"]
    assert 0.1 * 14 < sigma < 0.16 * 17  # of lines 16 px wide, whose ends shorten the outline's figure a little
    assert sharp.manifest["effects"][ROUNDING]["sigma_px"] == 0
    changed = np.abs(sharp.image.astype(int) - rounded.image) > 10
    near_via = np.zeros_like(changed)
    for x, y, radius in sharp.vias:
        rows, columns = np.ogrid[: changed.shape[0], : changed.shape[1]]
        near_via |= np.hypot(columns - x, rows - y) < radius + 12
    assert changed[near_via].any()
    assert not changed[~near_via].any()  # the lines are straight and run from border to border


def test_vias_are_given_by_centre_and_radius(window: Window) -> None:
    sample = show(window, Appearance())
    assert len(sample.vias) == len(window.polygons["via"]) > 0
    whole = [(x, y) for x, y, radius in sample.vias if radius == pytest.approx(10 / np.sqrt(np.pi), abs=1e-3)]
    assert all(sample.via[int(y), int(x)] for x, y in whole)
    assert whole


def test_set_is_written_as_a_dataset_with_its_origin(layout: Layout, tmp_path: Path) -> None:
    target = tmp_path / "bus-syn"
    look = Appearance("hy5syn", seed=5, off=frozenset({"jpeg"}))
    entries = write(layout, target, 3, nm_per_pixel=10, height=96, width=96, look=look)
    manifest = json.loads((target / "manifest.json").read_text("utf-8"))
    assert manifest["images"] == entries
    assert manifest["source"] == {
        "file": "bus.gds",
        "sha256": layout.sha256,
        "cell": "bus",
        "layers": {"68/20": "track", "67/44": "via"},
    }
    assert {key: manifest[key] for key in ("dataset", "seed", "target", "appearance", "nm_per_pixel")} == {
        "dataset": "bus-syn", "seed": 5, "target": "track", "appearance": "hy5syn", "nm_per_pixel": 10,
    }  # fmt: skip
    for entry, window in zip(entries, windows(layout, 3, height=96, width=96, nm_per_pixel=10, seed=5), strict=True):
        assert np.array_equal(np.asarray(Image.open(target / "image" / entry["name"])), show(window, look).image)
        mask = np.asarray(Image.open(target / "label" / entry["name"]))
        assert np.array_equal(mask == 255, window.mask("track"))
        assert entry["layout"]["origin_nm"] == list(window.origin_nm)
        assert "jpeg" not in entry["effects"]
    with pytest.raises(UserError, match="exists already"):
        write(layout, target, 3, nm_per_pixel=10, look=look)


def test_masks_that_merge_nets_are_reported(layout: Layout) -> None:
    fine, coarse = (
        [
            show(w, Appearance()).manifest | {"name": "a.png"}
            for w in windows(layout, 2, height=64, width=64, nm_per_pixel=nm)
        ]
        for nm in (10, 350)
    )
    assert notes(fine) == ()
    (note,) = notes(coarse)
    assert note.startswith("another number of nets than the layout in 2 of 2 masks, such as a.png")


@pytest.mark.parametrize(
    ("look", "message"),
    [
        (Appearance("omv"), "--appearance 'omv': expected one of hy5syn, miic, omc"),
        (Appearance("hy5syn", off=frozenset({"film"})), "bus-syn has no effect 'film' to switch off"),
    ],
)
def test_unknown_looks_are_refused(layout: Layout, look: Appearance, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        write(layout, tmp_path / "bus-syn", 1, nm_per_pixel=10, look=look)
    assert not list(tmp_path.iterdir())


class InProcess:
    """A pool without the seconds that its processes take to begin; it pickles what these would be sent."""

    def __init__(self, **_: Any) -> None: ...

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def map(self, work: Callable[[Any], Any], jobs: Sequence[Any]) -> Iterator[Any]:
        for job in jobs:
            sent, given = pickle.loads(pickle.dumps((work, job)))
            yield pickle.loads(pickle.dumps(sent(given)))


def synthesized(call: Call, folder: Path) -> str:
    bus(folder / "bus.gds")
    code, out, err = call(
        *("data", "synthesize", "--layout", "bus.gds", "--layers", "68/20,67/44", "--nm-per-pixel", "10"),
        *("--count", "10", "--height", "64", "--width", "64"),
    )
    assert code == 0, err
    return out


def test_set_is_a_dataset_of_the_data_root(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("concurrent.futures.ProcessPoolExecutor", InProcess)
    assert synthesized(call, tmp_path).endswith("data/bus-syn: 10 images\n")
    protocol = load_protocol("quick", SMALL)
    (source,) = resolve("bus-syn", tmp_path / "data", protocol, HashCache(tmp_path / "hashes.json"))
    assert (source.name, source.target, len(source.pairs)) == ("bus-syn", "track", 10)
    assert [spec.name for spec in choose("*-syn", tmp_path / "data").values()].count("bus-syn") == 1
    pack = open_pack(source, protocol, tmp_path / "cache")
    assert pack.images.shape == (10, 64, 64, 1)
    assert list(stand_ins(["bus-syn"])) == ["bus-syn is synthetic, drawn in place of bus."]
    code, _, err = call("data", "synthesize", "--layout", "bus.gds", "--layers", "68/20")
    assert code == 2
    assert "data/bus-syn: exists already" in err


@pytest.mark.slow
def test_set_goes_through_a_study(call: Call, tmp_path: Path) -> None:
    synthesized(call, tmp_path)
    code, out, err = call(
        *("run", "--models", f"{TINY}:TinyNet", "--datasets", "bus-syn", "--protocol", "quick", "--device", "cpu"),
        *("--threads", "1", "--repeats", "1", *settings("split.counts=[6,2,2]")),
    )
    assert code == 0, out + err
    assert list((tmp_path / "results/quick/runs/bus-syn").glob("*/0/record.json"))
    page = next((tmp_path / "results/quick/report").rglob("index.html")).read_text("utf-8")
    assert "bus-syn is synthetic, drawn in place of bus." in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--datasets None, --layout None: expected one of the two"),
        (("--datasets", "omc", "--layout", "sky130"), "expected one of the two"),
        (("--datasets", "omc", "--layers", "1/0"), "--layers: changes windows of a layout, and --datasets omc is a"),
        (("--datasets", "omc", "--nm-per-pixel", "10"), "benchmark: --nm-per-pixel: changes windows of a layout"),
        (
            ("--datasets", "omc", "--target", "via", "--appearance", "miic"),
            "benchmark: --appearance, --target: changes windows of a layout, and --datasets omc is a stand-in; leave",
        ),
        (("--layout", "nowhere.gds"), "--layout nowhere.gds: no such file; expected a GDS or OASIS file"),
        (("--layout", "empty.gds"), "no --layers"),
        (
            ("--layout", "nowhere.gds", "--layers", "1/0", "--target", "metal"),
            "--target 'metal': expected track or via",
        ),
    ],
)
def test_wrong_flags_give_one_message(call: Call, arguments: tuple[str, ...], message: str) -> None:
    Path("empty.gds").touch()
    code, _, err = call("data", "synthesize", *arguments)
    assert code == 2
    assert message in err.replace("\n", " ")
    assert not Path("data").exists()


def test_replacing_the_layout_of_a_window_changes_no_truth(window: Window) -> None:
    """Streams follow the content's hash: the same window of other bytes looks different and has the same mask."""
    other = show(replace(window, sha256="0" * 64), Appearance())
    assert (other.track == window.mask("track")).all()
    assert (other.image != show(window, Appearance()).image).any()
