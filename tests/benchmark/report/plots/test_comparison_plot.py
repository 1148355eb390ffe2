"""Plots with a model per row: means, intervals, repeats and groups; electrical errors as stacked bars."""

from __future__ import annotations

import statistics
from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

from benchmark.metrics import significance
from benchmark.report.plots import comparison_plot, electrical_plot
from benchmark.report.read import read_study
from benchmark.report.tables import accuracy_table
from benchmark.report.tables.contests import contest
from tests.benchmark.report import fake
from tests.benchmark.report.plots.test_accuracy_cost_plot import assert_readable
from tests.benchmark.report.tables.test_significance_table import image, write_models


def figures(folder: Path) -> dict[str, Figure]:
    study = read_study(folder)
    return {**dict(comparison_plot.draw(study)), **dict(electrical_plot.draw(study))}


@pytest.fixture(scope="module")
def drawn(study: Path) -> dict[str, Figure]:
    return figures(study)


def names(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def said(figure: Figure) -> str:
    return " ".join(" ".join(text.get_text() for text in figure.findobj(Text)).split())


def bars(figure: Figure) -> list[tuple[int, ...]]:
    """Rows that each bar on the right joins."""
    axes = figure.axes[0]
    frame = axes.get_window_extent().transformed(figure.dpi_scale_trans.inverted())
    pitch = frame.height / len(names(figure))
    joined = [line for line in axes.findobj() if line.get_gid() == "group"]
    return [tuple(round((frame.y1 - y) / pitch - 0.5) for y in line.get_ydata()) for line in joined]


def test_eleven_and_two_models_are_readable(drawn: dict[str, Figure], tmp_path: Path) -> None:
    assert set(drawn) == {f"{name}.{kind}" for name in ("omc-syn", "miic-syn") for kind in ("comparison", "electrical")}
    for name, figure in drawn.items():
        assert_readable(name, figure)
    for name, figure in figures(fake.write_study(tmp_path, ["eal_icnet", "unet"], ["omc-syn"])).items():
        assert len(names(figure)) == 2
        assert_readable(name, figure)


def test_variants_long_names_and_single_repeats_are_readable(tmp_path: Path) -> None:
    models = [*fake.MODELS, "eal_icnet.no_pam", "a_network_of_a_user_with_a_long_name_v2", "网络_x1"]
    for name, figure in figures(fake.write_study(tmp_path, models, ["omc-syn"], repeats=1)).items():
        assert len(names(figure)) == 14
        assert_readable(name, figure)


def test_models_stand_by_their_mean_with_their_repeats_and_the_bootstraps_interval(
    study: Path, drawn: dict[str, Figure]
) -> None:
    result = read_study(study)
    block = accuracy_table.scores(result, accuracy_table.ACCURACY).blocks[0]
    means = {row.label: row.cells["miou"].mean for row in block.rows if row.ranked}
    figure = drawn["omc-syn.comparison"]

    assert names(figure) == sorted(means, key=lambda label: -means[label])
    place = names(figure).index("FCN")
    lines = figure.axes[0].lines
    (mark,) = [line for line in lines if list(line.get_ydata()) == [place] and line.get_marker() == "s"]
    assert mark.get_xdata()[0] == pytest.approx(100 * means["FCN"])
    (dots,) = [line for line in lines if len(line.get_xdata()) == 3 and int(line.get_ydata()[0]) == place]
    runs = contest(result, block, "miou", "image")
    assert sorted(dots.get_xdata()) == pytest.approx(sorted(100 * value for value in runs.values("fcn").values()))
    segments = [segment for one in figure.axes[0].collections for segment in one.get_segments()]
    (interval,) = [segment for segment in segments if segment[0, 1] == place]
    low, high = significance.two_level_bootstrap(runs.networks("fcn", [0, 1, 2]))
    assert interval[:, 0] == pytest.approx([100 * low, 100 * high])


def test_footnote_names_interval_test_and_n(drawn: dict[str, Figure]) -> None:
    text = said(drawn["omc-syn.comparison"])
    for part in (
        "two-level bootstrap, percentile, 2,000 draws of repeats (n = 3; n = 2: UNet), then of source frames (4)",
        "paired t-test over repeats, Holm p ≥ 0.05 over all 55 pairs",
        "8 test images",
        "Protocol: quick",
        "mIoU (%), image reduction",
    ):
        assert part in text
    assert "No run finished: HRNet-W48" in said(drawn["miic-syn.comparison"])
    assert "HRNet-W48" not in names(drawn["miic-syn.comparison"])


def test_bars_join_exactly_what_the_paired_tests_do_not_tell_apart(tmp_path: Path) -> None:
    """A leads B and C, which lead D; luck of a hundredth of the steps between them."""
    luck = np.random.default_rng(0)
    base = {"unet": 100, "eal_icnet": 200, "fcn": 200, "edanet": 300}
    models = {
        model: [[image(3000, wrong + int(luck.integers(-3, 4)))] * 8 for _ in range(6)] for model, wrong in base.items()
    }
    figure = figures(write_models(tmp_path, models))["omc-syn.comparison"]

    order = names(figure)
    assert (order[0], order[3]) == ("UNet", "EDANet")
    assert bars(figure) == [(1, 2)]
    assert "Joined: no difference shown" in said(figure)


def test_without_a_difference_all_are_joined_and_without_a_test_none(tmp_path: Path) -> None:
    luck = np.random.default_rng(0)
    alike = {name: [[image(3000, int(luck.integers(100, 300)))] * 8 for _ in range(3)] for name in fake.MODELS}
    figure = figures(write_models(tmp_path / "alike", alike))["omc-syn.comparison"]
    assert bars(figure) == [tuple(range(11))]
    one = {name: repeats[:1] for name, repeats in alike.items()}
    figure = figures(write_models(tmp_path / "one", one))["omc-syn.comparison"]
    assert bars(figure) == []
    assert "none is tested against another" in said(figure)
    assert "Joined" not in said(figure)


def test_methods_without_training_are_lines_or_named_beyond_the_axis(tmp_path: Path) -> None:
    models = {name: [[image(3000, wrong + repeat)] * 8 for repeat in range(3)] for name, wrong in
              (("eal_icnet", 200), ("unet", 300))}  # fmt: skip
    write_models(tmp_path, models)
    fake.write_counts(tmp_path / "references/omc-syn.otsu.csv", [image(3000, 260)] * 8)
    fake.write_counts(tmp_path / "references/omc-syn.kmeans.csv", [image(3000, 262)] * 8)
    fake.write_counts(tmp_path / "references/omc-syn.background.csv", [image(0, 3000)] * 8)

    figure = figures(tmp_path)["omc-syn.comparison"]

    block = accuracy_table.scores(read_study(tmp_path), accuracy_table.ACCURACY).blocks[0]
    means = {row.label: 100 * row.cells["miou"].mean for row in block.rows}
    upright = [line for line in figure.axes[0].lines if list(line.get_ydata()) == [0, 1] and len(line.get_xdata()) == 2]
    assert [line.get_xdata()[0] for line in upright] == pytest.approx([means["Otsu threshold"], means["k-means"]])
    assert len({str(line._dash_pattern) for line in upright}) == 2
    assert f"Otsu threshold {means['Otsu threshold']:.2f}" in said(figure)
    assert f"All background {means['All background']:.2f} (left of the axis)" in said(figure)
    left, right = figure.axes[0].get_xlim()
    assert means["All background"] < left < means["UNet"] < means["EAL-ICNet"] < right
    assert_readable("references", figure)


def rectangles(figure: Figure) -> dict[int, list[Rectangle]]:
    result: dict[int, list[Rectangle]] = {}
    for patch in figure.axes[0].patches:
        assert isinstance(patch, Rectangle)
        result.setdefault(round(patch.get_y() + patch.get_height() / 2), []).append(patch)
    return result


def test_faults_are_stacked_sums_over_images_averaged_over_repeats(tmp_path: Path) -> None:
    def faulty(**counts: int) -> dict[str, int]:
        return image(3000, 200) | {"opens": 0, "shorts": 0, "missed": 0, "false": 0} | counts

    models = {
        "eal_icnet": [[faulty(opens=1, missed=2), faulty(opens=3)], [faulty(opens=1), faulty(opens=1, false=1)]],
        "unet": [[faulty(shorts=1), faulty()]] * 2,
        "fcn": [[faulty(), faulty()]] * 2,
        "hrnet": [[faulty(shorts=9), faulty()]],
    }
    figure = figures(write_models(tmp_path, models))["omc-syn.electrical"]

    assert names(figure) == ["FCN", "UNet", "EAL-ICNet", "HRNet-W48"]  # fewest first
    result = rectangles(figure)
    assert 0 not in result
    ((short,), stacked) = result[1], result[2]
    assert short.get_width() == 2 / 2
    # (1 + 3 + 1 + 1) / 2 opens, 2 / 2 missed, 1 / 2 false, one behind the other.
    assert [(patch.get_x(), patch.get_width()) for patch in stacked] == [(0, 3), (3, 1), (4, 0.5)]
    totals = [text.get_text() for text in figure.axes[0].texts]
    assert totals == ["0.0", "1.0", "4.5", "9.0"]
    over = "Mean over n = 2 repeats (n = 1: HRNet-W48) of counts summed over 2 test images with 18 interior nets"
    assert over in said(figure)
    red, (blue, yellow, green) = short, stacked
    assert [to_hex(patch.get_facecolor()).upper() for patch in (blue, red, yellow, green)] == [
        electrical_plot.LOOKS[kind][0] for kind in ("opens", "shorts", "missed", "false")
    ]
    assert_readable("faults", figure)


def test_large_total_of_a_bar_beyond_the_axis_is_inside(tmp_path: Path) -> None:
    def faulty(false: int) -> dict[str, int]:
        return image(3000, 200) | {"opens": 0, "shorts": 0, "missed": 0, "false": false}

    false = dict.fromkeys(("eal_icnet", "edanet", "irdpnet", "letnet"), 3) | {"esnet": 123456}
    figure = figures(write_models(tmp_path, {model: [[faulty(of)]] for model, of in false.items()}))[
        "omc-syn.electrical"
    ]
    assert "▶ 123456.0" in said(figure)
    assert_readable("beyond", figure)


def test_kinds_of_faults_differ_in_grey_too() -> None:
    """Two kinds of one hatch differ by a third of the way from black to white."""
    for kinds in (("opens", "shorts", "missed", "false"), ("via_missed", "via_false")):
        looks = [electrical_plot.LOOKS[kind] for kind in kinds]
        for number, (colour, hatch) in enumerate(looks):
            for other, same in looks[:number]:
                grey = [np.dot([int(c[i : i + 2], 16) for i in (1, 3, 5)], (0.3, 0.59, 0.11)) for c in (colour, other)]
                assert hatch != same or abs(grey[0] - grey[1]) > 85


def test_via_targets_show_missed_and_false_vias(tmp_path: Path) -> None:
    pixels = {name: value for name, value in image(3000, 200).items() if name in ("tp", "fp", "fn", "tn")}
    rows = [pixels | {"via_true": 10, "via_predicted": 8, "via_matched": 7}] * 4
    write_models(tmp_path, {"eal_icnet": [rows] * 2, "unet": [rows] * 2}, "omv-syn")

    figure = figures(tmp_path)["omv-syn.electrical"]

    assert [patch.get_width() for patch in rectangles(figure)[0]] == [12, 4]
    text = said(figure)
    assert "Via errors on omv-syn" in text
    assert "Missed vias" in text
    assert "False vias" in text
    assert "Opens" not in text
    assert_readable("vias", figure)


def test_nothing_finished_is_no_plot_and_counts_without_nets_no_electrical_one(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    fake.write_run(tmp_path, "unet", ["omc-syn"], 0, None, status="interrupted")
    assert figures(tmp_path) == {}
    pixels = {name: value for name, value in image(3000, 200).items() if name in ("tp", "fp", "fn", "tn")}
    fake.write_run(tmp_path, "unet", ["omc-syn"], 0, [pixels] * 4)
    assert figures(tmp_path) == {}  # one mark shows nothing
    fake.write_run(tmp_path, "fcn", ["omc-syn"], 0, [pixels] * 4)
    assert set(figures(tmp_path)) == {"omc-syn.comparison"}


def test_network_far_below_the_others_does_not_stretch_the_axis(tmp_path: Path) -> None:
    wrong = {name: 200 + 10 * number for number, name in enumerate(fake.MODELS)} | {"hrnet": 2500}
    models = {name: [[image(3000, pixels + repeat)] * 8 for repeat in range(3)] for name, pixels in wrong.items()}

    figure = figures(write_models(tmp_path, models))["omc-syn.comparison"]

    left, right = figure.axes[0].get_xlim()
    assert right - left < 8
    assert names(figure)[-1] == "HRNet-W48"
    assert [text.get_text()[:2] for text in figure.axes[0].texts] == ["◀ "]
    assert "the mean lies beyond the axis" in said(figure)
    assert_readable("far", figure)


def test_models_repeats_of_different_images_have_no_interval(tmp_path: Path) -> None:
    fake.write_study(tmp_path, ["eal_icnet", "unet"], ["omc-syn"])
    file = tmp_path / "runs/omc-syn/unet/1/images.omc-syn.csv"
    file.write_text(file.read_text().replace("3.png", "4711.png"))

    figure = figures(tmp_path)["omc-syn.comparison"]

    assert "No interval, since repeats saw different images: UNet" in said(figure)
    means = {row.label: statistics.fmean(contest_values(tmp_path, row.key)) for row in block_rows(tmp_path)}
    assert names(figure) == sorted(means, key=lambda label: -means[label])


def test_one_repeat_on_one_frame_has_no_interval_and_a_long_legend_stays_inside(tmp_path: Path) -> None:
    write_models(tmp_path, {"edanet": [[image(3000, 260)]], "contextnet": [[image(3000, 400)]]})
    (tmp_path / "references").mkdir()
    for method, counts in {"otsu": image(3000, 20), "kmeans": image(3000, 30), "background": image(0, 3000)}.items():
        fake.write_counts(tmp_path / f"references/omc-syn.{method}.csv", [counts])

    figure = figures(tmp_path)["omc-syn.comparison"]

    assert "Means over n = 1 repeat. No intervals, since one repeat on one source frame has no spread" in said(figure)
    assert "95 % interval" not in said(figure)
    for label in ("Otsu threshold", "k-means", "All background"):
        assert f"{label} " in said(figure)
    assert_readable("legend", figure)


def block_rows(folder: Path) -> list[accuracy_table.Row]:
    return [
        row for row in accuracy_table.scores(read_study(folder), accuracy_table.ACCURACY).blocks[0].rows if row.ranked
    ]


def contest_values(folder: Path, model: str) -> list[float]:
    study = read_study(folder)
    block = accuracy_table.scores(study, accuracy_table.ACCURACY).blocks[0]
    return list(contest(study, block, "miou", "image").values(model).values())
