"""Netlists against components that scipy gives, on drawn layouts and by hand."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import skeletonize

from benchmark.data.synthetic import generate
from benchmark.metrics.components import Components
from benchmark.predict.netlist import Netlist, lengths_px

EIGHT = np.ones((3, 3), int)


def hand_drawn() -> dict[str, np.ndarray]:
    """A straight track with two vias, one that turns with none, and a via beside both."""
    track, via = np.zeros((2, 40, 60), bool)
    track[5:8, 10:50] = track[20:23, 10:31] = track[20:36, 28:31] = True
    via[5:8, 12:15] = via[5:8, 40:43] = via[12:15, 3:6] = True
    return {"track": track, "via": via}


def test_rows_of_a_drawing_by_hand() -> None:
    netlist = Netlist.of(hand_drawn())
    nets = list(csv.DictReader(io.StringIO(netlist.nets_csv().decode())))
    assert [[row[name] for name in row if name != "length_px"] for row in nets] == [
        ["1", "track", "10", "5", "50", "8", "120", "2"],
        ["2", "track", "10", "20", "31", "36", "102", "0"],
    ]
    lengths = [float(row["length_px"]) for row in nets]
    assert lengths[0] == pytest.approx(39, abs=3)  # thinning takes about half the width from either end
    assert lengths[1] == pytest.approx(20 + 14, abs=4)
    vias = list(csv.DictReader(io.StringIO(netlist.vias_csv().decode())))
    assert [tuple(row.values()) for row in vias] == [
        ("1", "via", "13.00", "6.00", "1.69", "9", "1"),
        ("2", "via", "41.00", "6.00", "1.69", "9", "1"),
        ("3", "via", "4.00", "13.00", "1.69", "9", ""),
    ]
    content = json.loads(netlist.to_json())
    assert (content["schema"], content["height"], content["width"]) == (1, 40, 60)
    assert [net["vias"] for net in content["nets"]] == [[1, 2], []]
    assert [via["net_track"] for via in content["vias"]] == [1, 1, None]
    assert content["nets"][0]["right"] == 50


def test_length_counts_steps_of_a_line_one_pixel_wide() -> None:
    mask = np.zeros((30, 40), bool)
    mask[3, 5:20] = True
    mask[10 + np.arange(10), 5 + np.arange(10)] = True
    assert lengths_px(mask, Components.of(mask)).tolist() == [14, pytest.approx(9 * 2**0.5)]


@pytest.mark.parametrize("index", range(6))
def test_nets_and_vias_are_scipy_s(index: int) -> None:
    sample = generate("hy5syn", index, height=200, width=260, seed=5)
    netlist = Netlist.of({"track": sample.track, "via": sample.via})
    labels, count = ndimage.label(sample.track, EIGHT)
    order = [int(labels.ravel()[(labels == number).argmax()]) for number in range(1, count + 1)]
    assert order == netlist.nets["net"].tolist()  # in raster order of their first pixels
    for row, (rows, columns) in zip(netlist.nets.to_dict("records"), ndimage.find_objects(labels), strict=True):
        box = columns.start, rows.start, columns.stop, rows.stop
        assert tuple(row[name] for name in ("left", "top", "right", "bottom")) == box
        assert row["area_px"] == (labels == row["net"]).sum()
        assert row["vias"] == (netlist.vias["net_track"] == row["net"]).sum()
    own, found = ndimage.label(sample.via, EIGHT)
    assert found == len(netlist.vias)
    for via in netlist.vias.to_dict("records"):
        shared = np.bincount(labels[own == via["via"]], minlength=count + 1)[1:]
        assert via["net_track"] == (shared.argmax() + 1 if shared.any() else 0)
        assert (via["y"], via["x"]) == pytest.approx(ndimage.center_of_mass(own == via["via"]))
    assert len(netlist.vias)


@pytest.mark.parametrize("band", [1, 17, 64])
def test_bands_give_the_skeleton_of_the_whole(band: int) -> None:
    sample = generate("omc", 3, height=330, width=150, seed=2)
    components = Components.of(sample.track)
    whole = lengths_px(sample.track, components, band=1000)
    np.testing.assert_allclose(lengths_px(sample.track, components, band=band), whole)
    pixels = np.bincount(ndimage.label(sample.track, EIGHT)[0][skeletonize(sample.track)], minlength=len(whole) + 1)[1:]
    assert ((whole >= pixels - 2) & (whole <= 2**0.5 * pixels)).all()


def test_several_layers_of_nets_and_of_vias_have_numbers_of_their_own() -> None:
    m1, m2, via1, via2 = np.zeros((4, 20, 30), bool)
    m1[2:5], m2[:, 10:13], via1[3, 11], via2[10, 11], via2[18, 28] = True, True, True, True, True
    netlist = Netlist.of({"m1": m1, "via1": via1, "m2": m2, "via2": via2})
    assert netlist.nets[["net", "layer", "vias"]].values.tolist() == [[1, "m1", 1], [2, "m2", 2]]
    columns = ["via", "layer", "net_m1", "net_m2"]
    assert netlist.vias[columns].values.tolist() == [[1, "via1", 1, 2], [2, "via2", 0, 2], [3, "via2", 0, 0]]
    assert [net["vias"] for net in json.loads(netlist.to_json())["nets"]] == [[1], [1, 2]]


@pytest.mark.parametrize("layers", [("track",), ("via",), ("track", "via")])
@pytest.mark.parametrize("value", [False, True])
def test_nothing_and_everything_have_a_netlist(layers: tuple[str, ...], value: bool) -> None:
    netlist = Netlist.of({layer: np.full((6, 9), value) for layer in layers})
    assert len(netlist.nets) == ("track" in layers) * value
    assert len(netlist.vias) == ("via" in layers) * value
    content = json.loads(netlist.to_json())
    assert [len(content["nets"]), len(content["vias"])] == [len(netlist.nets), len(netlist.vias)]
    assert netlist.nets_csv().startswith(b"net,layer,left,top,right,bottom,area_px,length_px,vias\n")
    assert netlist.vias_csv().startswith(b"via,layer,x,y,r,area_px")
