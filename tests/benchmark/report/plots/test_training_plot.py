"""Training curves: what is drawn of each history, and what is left out."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from benchmark.report.plots import training_plot
from benchmark.report.plots.plot_style import SEPARATOR
from benchmark.report.read import read_study
from tests.benchmark.report import fake
from tests.benchmark.report.plots.test_accuracy_cost_plot import assert_readable


def test_panels_keep_the_best_point_and_leave_out_what_is_no_history(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "eal_icnet", "fcn"], ["omc-syn"], repeats=2)
    losses = [1.0] * 997
    losses[640] = 0.5
    fake.write_history(folder / "runs/omc-syn/unet/0", losses)
    fake.write_history(folder / "runs/omc-syn/unet/1", [math.nan, 0.9, 0.8])
    (folder / "runs/omc-syn/fcn/0/history.csv").write_text("steps\nmany\n")

    ((name, figure),) = training_plot.draw(read_study(folder))

    assert (name, figure.get_gid()) == ("training.omc-syn", "omc-syn")
    (axes,) = figure.axes
    assert str(axes.get_gid()).split(SEPARATOR) == [
        "model",
        "unet",
        "UNet: repeat 0: lowest validation loss 0.5000 at step 6410; "
        "repeat 1: lowest validation loss 0.8000 at step 30",
    ]
    training, validation, best, _, second, _ = (np.asarray(line.get_data()).T.tolist() for line in axes.lines)
    assert training[0][1] == validation[0][1] / 2
    assert len(validation) <= training_plot.POINTS + 1
    assert [6410, 0.5] in validation
    assert best == [[6410, 0.5]]
    assert second == [[20, 0.9], [30, 0.8]]  # NaN is left out
    assert_readable(name, figure)


def test_eleven_models_and_a_wide_range_of_losses_stay_readable(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", datasets=["omc-syn"], repeats=2)
    for run in folder.glob("runs/*/*/*"):
        fake.write_history(run, list(0.05 + 3 * np.exp(-np.arange(30) / 5)))

    ((name, figure),) = training_plot.draw(read_study(folder))

    assert len(figure.axes) == 11
    assert {axes.get_yscale() for axes in figure.axes} == {"log"}
    assert len({axes.get_ylim() for axes in figure.axes}) == 1
    assert [axes.get_xlabel() for axes in figure.axes] == [""] * 7 + ["step"] * 4  # the lowest of each column
    assert "on a logarithmic scale" in figure.texts[1].get_text()
    assert_readable(name, figure)


def test_diverged_run_is_cut_at_the_edge_with_its_value(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", datasets=["omc-syn"], repeats=1)
    for number, run in enumerate(sorted(folder.glob("runs/*/*/*"))):
        fake.write_history(run, [0.9, 0.5 - number / 100, 1.2e6 if number == 0 else 0.3])

    ((name, figure),) = training_plot.draw(read_study(folder))

    assert {axes.get_ylim()[1] < 2 for axes in figure.axes} == {True}
    assert [text.get_text() for axes in figure.axes for text in axes.texts] == ["▲ 1.2e+06"]
    assert "beyond the axis" in figure.texts[1].get_text()
    assert_readable(name, figure)


def test_study_without_histories_has_no_curves(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet"], ["omc-syn"], repeats=1)

    assert list(training_plot.draw(read_study(folder))) == []


def test_ticks_end_where_a_training_ends(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet"], ["omc-syn"], repeats=1)
    fake.write_history(folder / "runs/omc-syn/unet/0", [0.5, 0.4, 0.3, 0.2, 0.1])

    ((_, figure),) = training_plot.draw(read_study(folder))

    assert figure.axes[0].get_xticks().tolist() == [0, 25, 50]
