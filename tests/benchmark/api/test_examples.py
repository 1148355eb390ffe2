"""Examples of docstrings and of the page about Python give what they show."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import benchmark
from benchmark.api import calls, loaded_study, score_masks
from tests.benchmark.conftest import Call

PAGE = Path(benchmark.__file__).parent / "api/python.md"


@pytest.mark.parametrize("module", [benchmark, calls, loaded_study, score_masks])
def test_examples_of_docstrings_are_right(module: object) -> None:
    assert doctest.testmod(module, extraglobs={"benchmark": benchmark}).failed == 0  # type: ignore[arg-type]


@pytest.mark.slow
def test_notebook_of_the_results_runs_and_shows_its_plots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MPLBACKEND")  # of the tests; a notebook has its own
    nbformat, nbclient = (pytest.importorskip(name) for name in ("nbformat", "nbclient"))
    notebook = nbformat.read(PAGE.parents[2] / "results/notebook.ipynb", as_version=4)
    shown = [[set(output.get("data", ())) for output in cell.get("outputs", ())] for cell in notebook.cells]
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": tmp_path}}).execute()
    again = [[set(output.get("data", ())) for output in cell.get("outputs", ())] for cell in notebook.cells]
    assert sum({"image/png"} <= kinds for outputs in again for kinds in outputs) == 2
    assert [outputs[-1:] for outputs in again][2:] == [outputs[-1:] for outputs in shown][2:]


@pytest.mark.slow
def test_lines_of_the_page_run_as_they_stand(tmp_path: Path, call: Call) -> None:
    code, _, err = call("data", "synthesize", "--datasets", "omc", "--count", "64", "--out", "data/mychip")
    assert code == 0, err
    drawn = sorted((tmp_path / "data/mychip").rglob("image/*"))[0]
    label = next((tmp_path / "data/mychip").rglob(f"label*/{drawn.stem}*"))
    for name, source in (("scans/die.tif", drawn), ("truth/die.png", label)):
        (tmp_path / name).parent.mkdir()
        Image.open(source).save(tmp_path / name)
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    exec(lines, names)
    mask, scores = names["mask"], names["scores"]
    assert isinstance(mask, np.ndarray)
    assert mask.shape == np.asarray(Image.open(tmp_path / "truth/die.png")).shape
    assert isinstance(scores, dict)
    assert scores["miou"] > 0.5
