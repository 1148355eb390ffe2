"""Files of panels: what a report writes and removes, whatever the names and files that a study kept."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.config.protocol import load_protocol
from benchmark.evaluation import kept_images
from benchmark.evaluation.counts import count_terms, counts_csv
from benchmark.records.store import Store
from benchmark.report.build import build
from benchmark.report.plots import panels
from benchmark.report.read import read_study
from benchmark.report.tables.accuracy_table import ACCURACY, scores
from tests.benchmark.report import fake
from tests.benchmark.report.plots.panel_study import (
    MASKS,
    SIDE,
    layout,
    spoiled,
    write_images,
    write_npz,
    write_result,
    write_study,
)


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_study(tmp_path / "quick")


def files_below(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_broken_images_are_told_and_the_rest_of_the_report_is_built(study: Path) -> None:
    file = Store(study).images_file("omc-syn")
    file.write_bytes(b"PK\x03\x04 no archive")
    sentences: list[str] = []
    files = build(study, plots=(), tell=sentences.append)
    assert [path for path in files if path.parent.name == "panels"] == []
    assert study / "report/tables/accuracy.md" in files
    (sentence,) = sentences
    assert str(file) in sentence


def test_names_in_files_lead_nowhere(study: Path) -> None:
    hostile = np.array(["../../../$x^2$\n\x1b[2J", "/escaped", "..", "a.png", "\ud800<script>"])
    before = files_below(study.parent)
    write_npz(
        Store(study).images_file("omc-syn"),
        names=hostile, images=np.stack(MASKS)[..., None], masks=np.stack(MASKS),
    )  # fmt: skip
    limits = load_protocol("quick").evaluation
    rows = [count_terms(mask, mask == 1, "track", limits) for mask in MASKS]
    named = [{"image": name, "group": "g", **row} for name, row in zip(hostile.tolist(), rows, strict=True)]
    for model in ("eal_icnet", "unet"):
        bits = np.packbits(np.stack(spoiled(MASKS)), axis=-1)
        file = Store(study).predictions_file(["omc-syn"], model, 0, "omc-syn")
        write_npz(file, names=hostile, bits=bits, width=np.array([SIDE]))
        file.with_name("images.omc-syn.csv").write_bytes(counts_csv(named[:1]))
    sentences: list[str] = []
    files = build(study, plots=(), tell=sentences.append)
    assert [path.name for path in files if path.parent.name == "panels"] == [
        "omc-syn.hardest.pdf",
        "omc-syn.hardest.png",
    ]
    assert files_below(study.parent) - before == set(files)
    assert sentences == []


def test_report_without_panels_leaves_none_of_earlier_ones_but_other_files(study: Path) -> None:
    folder = study / "report/panels"
    folder.mkdir(parents=True)
    for name in ("omc-syn.hardest.png", "omc-syn.median.pdf", "notes.txt"):
        (folder / name).touch()
    redacted = build(study, redact=True, plots=())
    assert not [path for path in redacted if path.parent.name == "panels"]
    assert len(list(folder.iterdir())) == 3
    shutil.rmtree(study / "panels")  # the images may no longer be shown
    files = build(study, plots=())
    assert not [path for path in files if path.parent.name == "panels"]
    assert list(folder.iterdir()) == [folder / "notes.txt"]


def test_same_files_give_the_same_bytes_at_the_size_of_a_page(tmp_path: Path) -> None:
    fake.write_protocol(tmp_path)
    write_images(tmp_path, "omc-syn", [layout(0)])
    write_result(tmp_path, "unet", spoiled(MASKS[:1]), MASKS[:1])
    results = read_study(tmp_path)
    first, second = (
        panels.files(panels.sheets(tmp_path, results, scores(results, ACCURACY).blocks, print)) for _ in range(2)
    )
    assert first == second
    picture = Image.open(io.BytesIO(first["panels/omc-syn.hardest.png"]))
    assert picture.width <= 11.7 * 200
    assert picture.height <= 8.3 * 200
    assert b"CreationDate" not in first["panels/omc-syn.hardest.pdf"]


def test_keeping_is_bounded_as_the_protocol_says() -> None:
    assert load_protocol("quick").report.panels == 12
    assert kept_images.MOST_PIXELS >= 12 * 1024 * 1024
