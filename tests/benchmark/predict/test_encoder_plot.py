"""The figure of stages: what stands where, in the right colours, and nothing on top of anything."""

from __future__ import annotations

import io
import itertools

import matplotlib
import numpy as np
import pytest
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image

from benchmark.predict import encoder_plot
from benchmark.predict.feature_maps import Encoder, Patch, Stage
from benchmark.report.plots import plot_style


def encoder(name: str, count: int, size: tuple[int, int]) -> Encoder:
    rng = np.random.default_rng(count)
    created = []
    for number in range(count):
        side = (max(size[0] >> number, 1), max(size[1] >> number, 1))
        created.append(Stage(f"encoder[{number}]", 512, "PC 1 (100 %)", rng.normal(size=side), size))
    return Encoder(name, f"omc-syn+miic-syn/{name.lower()}/2", tuple(created))


def seen(size: tuple[int, int], corner: tuple[int, int] = (0, 0), channels: int = 1) -> encoder_plot.StagePanel:
    pixels = np.random.default_rng(0).integers(0, 256, (*size, channels), dtype=np.uint8)
    patch = Patch(corner[0] + 4, corner[1] + 2, 8)
    return encoder_plot.StagePanel(
        "Encoder stages, study a_$b$: " + "0123" * 30, pixels, corner, patch, ("One", "Two " * 80)
    )


CASES = {
    "one network of one stage": (seen((32, 32)), [encoder("UNet", 1, (32, 32))]),
    "many stages": (seen((64, 64), channels=3), [encoder("UNet", 5, (64, 64)), encoder("EAL-ICNet", 3, (64, 64))]),
    "a wide image": (seen((20, 90)), [encoder("A network of a rather long name (variant)", 2, (20, 90))]),
    "a tall part of a large one": (seen((90, 20), (1234, 5678)), [encoder("网络", 4, (90, 20))]),
}


@pytest.mark.parametrize("case", CASES)
def test_no_text_overlaps_another_or_leaves_the_figure(case: str) -> None:
    figure = encoder_plot.draw(*CASES[case])
    figure.draw_without_rendering()

    # Of ticks, matplotlib keeps invisible ones beyond the ends: the bar counts as a whole.
    boxes = {f"{number} {text.get_text()}": text.get_window_extent() for number, text in enumerate(figure.texts)}
    boxes |= {f"axes {number}": axes.get_tightbbox() for number, axes in enumerate(figure.axes)}
    for (one, first), (two, second) in itertools.combinations(boxes.items(), 2):
        assert Bbox.intersection(first, second) is None, f"{one!r} on {two!r}"
    for text, box in boxes.items():
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


def cell(figure: Figure, column: int, *, patch: bool) -> np.ndarray:
    """Pixels of a cell of the first row, as printed: ``(height, width, 4)`` uint8."""
    printed = np.asarray(Image.open(io.BytesIO(plot_style.save(figure, "png"))))
    box = figure.axes[2 * column + patch].get_window_extent()
    height = printed.shape[0]
    return printed[round(height - box.y1) : round(height - box.y0), round(box.x0) : round(box.x1)]


def test_colours_are_the_common_scales_and_the_patch_is_cut_where_the_box_is() -> None:
    values = np.zeros((8, 8))
    values[2, 5], values[3, 4], values[0, 0] = 2.0, -2.0, 40.0
    # Padded to 40x40: a map's pixel covers five of the image's, and the eighth row and column lie beyond it.
    stage = Stage("down", 3, "channel 1", values, (40, 40))
    shown = encoder_plot.StagePanel("title", np.zeros((36, 36, 1), np.uint8), (100, 50), Patch(120, 60, 10), ("Note",))
    figure = encoder_plot.draw(shown, [Encoder("Net", "omc/net/0", (stage,))])

    enlarged, whole = cell(figure, 1, patch=True), cell(figure, 1, patch=False)

    def colour(value: float) -> list[int]:
        created = matplotlib.colormaps[encoder_plot.COLOURS]((value + encoder_plot.LIMIT) / (2 * encoder_plot.LIMIT))
        return [round(255 * part) for part in to_rgba(created)]

    def at(picture: np.ndarray, x: float, y: float) -> list[int]:
        """Colour at a place, given in shares of the picture."""
        result: list[int] = picture[int(y * picture.shape[0]), int(x * picture.shape[1])].tolist()
        return result

    # The patch covers the map's rows 2 and 3, columns 4 and 5.
    for near in (0.05, 0.45):
        assert np.abs(np.subtract(at(enlarged, 1 - near, near), colour(2))).max() <= 2
        assert np.abs(np.subtract(at(enlarged, near, 1 - near), colour(-2))).max() <= 2
        assert np.abs(np.subtract(at(enlarged, near, near), colour(0))).max() <= 2
    assert at(whole, 2 / 36, 2 / 36) == at(enlarged, 0.75, 0.25), "beyond the scale, its end"
    assert np.abs(np.subtract(at(whole, 34 / 36, 34 / 36), colour(0))).max() <= 2


@pytest.mark.parametrize("kind", ["pdf", "png"])
def test_same_maps_give_the_same_file(kind: str) -> None:
    one, two = (plot_style.save(encoder_plot.draw(*CASES["one network of one stage"]), kind) for _ in range(2))

    assert one == two
