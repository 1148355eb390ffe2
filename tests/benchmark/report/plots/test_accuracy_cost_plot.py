from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from benchmark.report.plots import accuracy_cost_plot, plot_style
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table
from tests.benchmark.report import fake


def figures(folder: Path) -> dict[str, Figure]:
    study = read_study(folder)
    return {name.replace("miou_vs_", ""): figure for name, figure in accuracy_cost_plot.draw(study)}


@pytest.fixture(scope="module")
def drawn(study: Path) -> dict[str, Figure]:
    return figures(study)


def extents(figure: Figure) -> dict[str, Bbox]:
    """Pixels of every visible text, by its content."""
    figure.draw_without_rendering()
    unseen = {  # ticks that a locator keeps just beyond the ends of an axis
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for value, label in zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=True)
        if not axis.get_view_interval()[0] <= value <= axis.get_view_interval()[1]
    }
    texts = [text for text in figure.findobj(Text) if text not in unseen and text.get_visible() and text.get_text()]
    measure = plot_style.renderer(figure)
    return {f"{number} {text.get_text()}": text.get_window_extent(measure) for number, text in enumerate(texts)}


def test_front_keeps_what_nothing_beats() -> None:
    points = [(1.0, 80.0), (2.0, 79.0), (3.0, 90.0), (4.0, 90.0), (5.0, 95.0)]

    assert accuracy_cost_plot.front(points, lower_is_better=True) == [(1.0, 80.0), (3.0, 90.0), (5.0, 95.0)]
    assert accuracy_cost_plot.front(points, lower_is_better=False) == [(5.0, 95.0)]
    assert accuracy_cost_plot.front([(1.0, 90.0), (2.0, 80.0), (1.5, 70.0)], lower_is_better=False) == [
        (1.0, 90.0),
        (2.0, 80.0),
    ]


def test_every_dataset_is_drawn_against_parameters_macs_and_fps(drawn: dict[str, Figure]) -> None:
    assert set(drawn) == {
        f"{dataset}.{axis}" for dataset in ("omc-syn", "miic-syn") for axis in ("params", "macs", "fps")
    }


def assert_readable(name: str, figure: Figure) -> None:
    boxes = extents(figure)
    for (text, box), (other, other_box) in itertools.combinations(boxes.items(), 2):
        assert Bbox.intersection(box, other_box) is None, f"{name}: {text!r} on {other!r}"
    for text, box in boxes.items():
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{name}: {text!r} leaves the figure"


def test_no_text_overlaps_another_or_leaves_the_figure(drawn: dict[str, Figure]) -> None:
    for name, figure in list(drawn.items())[:3]:  # against each cost on the first dataset
        assert {text.split(" ", 1)[1] for text in extents(figure)} >= {"EAL-ICNet", "UNet", "Pareto front"}
        assert_readable(name, figure)


def test_all_families_a_variant_and_a_long_device_name_stay_readable(tmp_path: Path) -> None:
    models = [*fake.MODELS, "eal_icnet.no_pam", "my_net"]
    fake.write_study(tmp_path, models, ["omc-syn"], repeats=1)
    for model in models:
        fake.write_efficiency(tmp_path, model, name="A Processor of a Brand with a Long Name @ 2.10GHz, " * 2)

    for name, figure in figures(tmp_path).items():
        assert_readable(name, figure)


def test_titles_name_units_and_conventions(drawn: dict[str, Figure]) -> None:
    def x_title(name: str) -> str:
        return str(drawn[name].axes[0].get_xlabel())

    assert x_title("omc-syn.params") == "Trainable parameters (M)"
    assert x_title("omc-syn.macs") == "MACs per image (G), 96×96, batch 1"
    assert x_title("omc-syn.fps") == f"FPS ({fake.CPU}, float32, batch 1, 2 threads), 96×96"
    texts = " ".join(text.get_text() for text in drawn["omc-syn.fps"].findobj(Text))
    assert "n = 3 repeats (ddof = 1); n = 2: UNet" in texts


def test_points_lie_at_the_tables_figures_with_their_deviation_as_bars(study: Path, drawn: dict[str, Figure]) -> None:
    block = accuracy_table.scores(read_study(study), accuracy_table.ACCURACY).blocks[0]
    cell = next(row for row in block.rows if row.key == "fcn").cells["miou"]

    containers = drawn["omc-syn.params"].axes[0].containers
    (bars,) = [bars for bars in containers if bars.lines[0].get_xdata()[0] == pytest.approx(18.642561)]
    assert bars.lines[0].get_ydata()[0] == pytest.approx(100 * cell.mean)
    (segment,) = bars.lines[2][0].get_segments()
    assert segment[:, 1] == pytest.approx([100 * (cell.mean - cell.std), 100 * (cell.mean + cell.std)])


def test_families_differ_in_shape_and_colour() -> None:
    assert len({shape for shape, _, _ in plot_style.STYLES.values()}) == len(plot_style.STYLES)
    assert len({colour for _, colour, _ in plot_style.STYLES.values()}) == len(plot_style.STYLES)


def test_fps_of_two_devices_do_not_share_a_plot(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet", "fcn", "edanet"], ["omc-syn"], repeats=1)
    fake.write_efficiency(tmp_path, "edanet", threads=8)

    drawn = figures(tmp_path)
    fps, macs = ({text.get_text() for text in drawn[f"omc-syn.{axis}"].axes[0].texts} for axis in ("fps", "macs"))

    assert fps == {"UNet", "FCN"}
    assert macs == {"UNet", "FCN", "EDANet"}  # MACs do not depend on the device
    assert any("Not measured: EDANet" in text.get_text() for text in drawn["omc-syn.fps"].texts)


def test_without_efficiency_there_is_no_plot(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc-syn"], 0, fake.counts(0.9, fake.random_of("x")))

    assert figures(tmp_path) == {}


def test_equal_means_and_names_without_glyphs_draw(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    rows = fake.counts(0.9, fake.random_of("x"))
    for name in ("x_1", "网络"):
        fake.write_run(tmp_path, name, ["omc-syn"], 0, rows)
        fake.write_efficiency(tmp_path, name)

    drawn = figures(tmp_path)

    assert {text.get_text() for text in drawn["omc-syn.params"].axes[0].texts} == {"x_1", "□□"}
    assert plot_style.save(drawn["omc-syn.params"], "png")


def test_pdfs_embed_truetype_and_no_date_and_pngs_have_200_dpi(built: list[Path]) -> None:
    pdf = next(path for path in built if path.suffix == ".pdf").read_bytes()
    png = next(path for path in built if path.suffix == ".png").read_bytes()

    assert b"/CIDFontType2" in pdf or b"/TrueType" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    image = Image.open(io.BytesIO(png))
    assert image.info["dpi"] == pytest.approx((200, 200), abs=0.1)
    assert set(image.info) <= {"dpi"}
    assert np.asarray(image.convert("L")).min() < 100


def test_network_of_few_parameters_draws_without_a_warning(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["unet"], ["omc-syn"], repeats=1)
    file = next((tmp_path / "efficiency").iterdir())
    record = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps(record | {"params": 10, "macs": 82944, "flops": 165888}), "utf-8")

    figures(tmp_path)  # warnings are errors in tests


def test_network_far_below_the_others_is_marked_at_the_edge_with_its_value(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    for number, name in enumerate(fake.MODELS):
        rows = fake.counts(0.3 if name == "hrnet" else 0.9 + number / 1000, fake.random_of("x"))
        fake.write_run(tmp_path, name, ["omc-syn"], 0, rows)
        fake.write_efficiency(tmp_path, name)

    figure = figures(tmp_path)["omc-syn.params"]

    (label,) = [text.get_text() for text in figure.axes[0].texts if "HRNet" in text.get_text()]
    block = accuracy_table.scores(read_study(tmp_path), accuracy_table.ACCURACY).blocks[0]
    (mean,) = [100 * row.cells["miou"].mean for row in block.rows if row.key == "hrnet"]
    assert label == f"HRNet-W48 ▼ {mean:.2f}"
    assert figure.axes[0].get_ylim()[0] > mean
    assert figure.texts[0].get_text() == "mIoU against parameters on omc-syn"
    assert_readable("far", figure)
