"""The page of a study: the tables' figures, nothing fetched, nothing rendered that others wrote, within its size."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

import numpy as np
import pytest
from markupsafe import Markup

from benchmark.records.run_record import Failure, Record
from benchmark.report.build import build, check
from benchmark.report.page import grids, html
from benchmark.report.page.drawings import Drawing, texts_only
from benchmark.report.page.html import PAGE_BYTES, PLOT_BYTES
from benchmark.report.page.pictures import embed
from benchmark.report.plots.all_plots import PLOTS
from benchmark.report.plots.sheet import Sheet, SheetPicture
from benchmark.report.read import read_study
from benchmark.report.tables.all_tables import TABLES
from benchmark.report.tables.literature_table import LiteratureEntry
from benchmark.report.tables.paper_table import PaperChoice
from benchmark.report.tables.render import Block, Cell, Column, Row, Table
from benchmark.utils.files import write_atomically
from tests.benchmark.report import fake
from tests.benchmark.report.conftest import IN_PAGE
from tests.benchmark.report.tables.test_significance_table import image, write_models
from tests.benchmark.speedup.test_compare import comparison

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&<!--panels-->"


class Tables(HTMLParser):
    """Collects every sortable table as rows of (model, [figure or None]), and every tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tables: list[list[tuple[str, list[float | None]]]] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "table" and attributes.get("class") != "plain":
            self.tables.append([])
        elif tag == "tr" and "data-m" in attributes:
            self.tables[-1].append((str(attributes["data-m"]), []))
        elif tag == "td" and self.tables and self.tables[-1]:
            value = attributes.get("data-v")
            self.tables[-1][-1][1].append(float(value) if value else None)

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(folder: Path) -> str:
    return (folder / "report/index.html").read_text("utf-8")


def page_with(folder: Path, drawings: Sequence[Drawing] = (), sheets: Sequence[Sheet] = ()) -> str:
    """Return the page of a study with other drawings and panels than its own."""
    results = read_study(folder)
    tables = [entry.make(results) for entry in TABLES]
    return html.to_html(folder.name, results, tables, drawings, (), sheets, "eal_icnet").decode()


@pytest.mark.parametrize("name", ["accuracy", "electrical", "efficiency"])
def test_page_and_csv_tell_the_same_figures(study: Path, built: list[Path], name: str) -> None:
    section = page_of(study).partition(f'<section id="{name}">')[2].partition("</section>")[0]
    shown = [row for table in Tables(section).tables for row in table]
    with (study / f"report/tables/{name}.csv").open() as file:
        lines = list(csv.DictReader(file))
    figures: list[tuple[str, list[float | None]]] = []
    previous = None
    for line in lines:
        cell = tuple(line[key] for key in line if key not in ("metric", "mean", "std", "n", "remark"))
        if cell != previous:
            figures.append((line["model"], []))
        previous = cell
        figures[-1][1].append(float(line["mean"]) if line["mean"] else None)
    # The page goes by family, as the printed tables do.
    assert sorted(model for model, _ in shown) == sorted(model for model, _ in figures)
    assert len(shown) > 10
    for model, values in figures:
        assert any(
            model == other
            and len(values) == len(cells)
            and all(
                (a is None and b is None) or (a is not None and b is not None and math.isclose(a, b, rel_tol=1e-8))
                for a, b in zip(values, cells, strict=True)
            )
            for other, cells in shown
        ), model


def test_it_fetches_nothing_and_every_link_leads_to_a_file_beside_it(study: Path, built: list[Path]) -> None:
    tags = Tables(page_of(study)).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "object", "embed", "base", "video", "audio")]
    for tag, attributes in tags:
        assert not str(attributes.get("src") or "data:").startswith(("http", "//", "/")), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
        href = attributes.get("href")
        if href is None or href.startswith("#"):
            continue
        assert ":" not in href
        assert (study / "report" / unquote(href)).exists(), href
    assert not re.search(r"url\((?!#)|@import", page_of(study))
    policy = next(a["content"] for tag, a in tags if tag == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:")
    targets = {a["href"][1:] for tag, a in tags if tag == "a" and str(a.get("href", "")).startswith("#")}
    assert targets <= {a["id"] for _, a in tags if "id" in a}


def test_what_others_wrote_is_shown_and_not_rendered(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2)
    fake.write_run(folder, "fcn", ["omc-syn"], 0, None, Failure(kind="error", message=HOSTILE, log=HOSTILE))
    record = Record.model_validate_json((folder / "runs/omc-syn/unet/0/record.json").read_bytes())
    odd = record.model_copy(update={"environment": {"cpu": HOSTILE, "code": {"version": HOSTILE}}})
    (folder / "runs/omc-syn/unet/0/record.json").write_bytes(odd.to_json())
    printed = LiteratureEntry(
        where="lit.csv:2", model=HOSTILE, dataset="omc-syn", metric="miou", value=0.5, source=HOSTILE
    )
    build(folder, PaperChoice(printed=(printed,)), plots=())
    page = page_of(folder)
    tags = Tables(page).tags
    assert len([tag for tag, _ in tags if tag == "script"]) == 1
    assert not [tag for tag, _ in tags if tag == "img"]
    assert "<!--panels-->" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 5  # row, remark, message, log, CPU


def test_no_user_host_or_absolute_path_is_shown(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "secret place" / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2)
    message = "'/home/Jane Doe/wafers/7.png': not an image; see /home/jane and file:///home/jane/x"
    failure = Failure(kind="bad_input", message=message, log='File "/home/jane/x.py", line 3')
    fake.write_run(folder, "fcn", ["omc-syn"], 0, None, failure)
    (folder / "runs/omc-syn/unet/1/record.json").write_text("{")
    build(folder, plots=())
    page = page_of(folder)
    assert "&#39;7.png&#39;: not an image" in page
    assert "omc-syn/unet/1" in page
    for word in ("Jane", "jane", "/home", "secret place", str(tmp_path)):
        assert word not in page
        assert all(word not in path.read_text("utf-8") for path in (folder / "report/tables").iterdir())


def test_summary_warns_and_names_best_and_reference(study: Path, built: list[Path]) -> None:
    text = " ".join(Tables(page_of(study)).text.split())
    assert "omc-syn is the synthetic stand-in for omc. miic-syn is the synthetic stand-in for miic." in text
    assert "Protocol quick: short trainings" in text
    assert "No numbers came from 4 of 66 runs" in text
    assert "62 of 66 finished" in text
    rows = list(csv.DictReader((study / "report/tables/accuracy.csv").read_text("utf-8").splitlines()))
    for dataset in ("omc-syn", "miic-syn"):
        means = {
            row["model"]: (float(row["mean"]), row["display"])
            for row in rows
            if (row["dataset"], row["metric"], row["n"]) == (dataset, "miou", "3") and row["family"] != "reference"
        }
        best, label = max(means.values())
        own = means["eal_icnet"][0]
        rank = 1 + sum(value > own for value, _ in means.values())
        figures = rf"{100 * best:.2f} ± [\d.]+ ?{100 * own:.2f} ± [\d.]+ ?{rank} of {len(means)}"
        assert re.search(rf"{dataset} ?{re.escape(label)} ?{figures}", text)


def test_runs_of_changed_or_different_code_are_told(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2)
    for repeat, content in enumerate("ab"):
        file = folder / f"runs/omc-syn/unet/{repeat}/record.json"
        code = {"version": "9.9", "commit": "c" * 40, "dirty": repeat == 1, "content": content}
        environment = {"code": code, "cpu": "A" * 500, "hostname": "lab-7", "packages": {"torch": "2.8"}}
        record = Record.model_validate_json(file.read_bytes()).model_copy(update={"environment": environment})
        file.write_bytes(record.to_json())
    build(folder, plots=())
    page = page_of(folder)
    assert "Code with changes that are in no commit made 1 of 4 runs." in page
    assert "The runs were made by 2 states of the code" in page
    assert "version = {9.9}" in page
    assert "lab-7" not in page  # only known facts are shown
    assert "A" * 201 not in page


def test_check_looks_at_the_page_too(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2)
    plots = IN_PAGE[:1]
    build(folder, plots=plots)
    assert check(folder, plots=plots) == []
    file, page = folder / "report/index.html", page_of(folder)
    tip = re.search(r"<title>UNet: mIoU .*?(\d\d\.\d\d)", page)
    assert tip is not None
    for text, other in (("UNet", "VNet"), (tip[0], tip[0].replace(tip[1], "99.99"))):
        file.write_text(page.replace(text, other, 1), "utf-8")
        assert check(folder, plots=plots) == [f"{file}: differs from the records"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """132 runs with sixty validations each."""
    folder = fake.write_study(
        tmp_path_factory.mktemp("results") / "full", datasets=("omc", "miic-syn", "hy5syn", "omv")
    )
    for run in folder.glob("runs/*/*/*"):
        rng = fake.random_of(run.parts[-3:])
        fake.write_history(run, list(0.2 + 0.5 * np.exp(-np.arange(60) / 9) + rng.normal(0, 0.01, 60)))
    return folder


def panel(stem: str, side: int = 8) -> Sheet:
    """A panel of fourteen pictures of noise, which does not compress."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    pictures = [SheetPicture(f"<b>{number}", "91.42 %", ("1 open",), pixels, model="unet") for number in range(14)]
    dataset, rank = stem.rsplit(".", 1)
    return Sheet(f"{stem} image", pictures, (0, 0), [("open", (40, 110, 255))], "A caption.", stem, dataset, rank)


@pytest.mark.slow
def test_full_study_with_panels_stays_below_five_megabytes(full: Path) -> None:
    ranks = ("hardest", "median", "easiest")
    sheets = [panel(f"{name}.{rank}", 300) for name in ("omc", "hy5syn", "omv") for rank in ranks]
    results = read_study(full)
    drawings = [Drawing.of(plot, *figure) for plot in PLOTS for figure in plot.draw(results)]
    page = page_with(full, drawings, sheets)
    assert len(page.encode()) < PAGE_BYTES
    assert "omv.easiest.png" in page.partition("Left out to keep this page small")[2]
    drawn = re.findall(r'(?s)<svg class="drawn".*?</svg>', page)
    assert len(drawn) == 4 * 6
    assert sum(map(len, drawn)) < PLOT_BYTES
    assert "Not shown above" not in page


def test_panels_come_first_with_their_texts_and_those_without_room_are_named(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    page = page_with(tmp_path, sheets=[panel("omc.hardest"), panel("omc.easiest"), panel("hy5syn.hardest")])
    assert page.count('<img src="data:image/png;base64,') == 3 * 2 * 14
    assert page.count("&lt;b&gt;0") == 3 * 2  # title and alternative text
    assert page.index("omc.hardest image") < page.index("hy5syn.hardest image") < page.index("omc.easiest image")
    assert page.index('<a href="#panels">') < page.index('<section id="panels">') < page.index("<table>")
    assert page.count("<details><summary>omc.easiest image") == 1
    assert "Left out" not in page
    shown, left_out = embed([panel("omc.hardest"), panel("omv.hardest", 100)], 100_000)
    assert ([panel.sheet.stem for panel in shown], left_out) == (["omc.hardest"], ["omv.hardest"])


def test_texts_of_panels_are_compared_and_pictures_are_not(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    sheet = panel("omc.hardest")
    inverted = [replace(picture, pixels=255 - picture.pixels) for picture in sheet.pictures]
    changes = ({}, {"pictures": inverted}, {"caption": "Another."})
    page, other, another = (page_with(tmp_path, sheets=[replace(sheet, **change)]) for change in changes)
    assert page != other
    assert texts_only(page.encode()) == texts_only(other.encode()) != texts_only(another.encode())


def test_names_and_units_lead_to_runs_and_formulas(study: Path, built: list[Path]) -> None:
    tags = Tables(page_of(study)).tags
    links = [str(attributes.get("href")) for tag, attributes in tags if tag == "a"]
    assert "../runs/omc-syn/eal_icnet/0/record.json" in links
    assert links.count("#metric-miou") >= 2
    anchors = {str(attributes["id"]) for tag, attributes in tags if tag == "tr" and "id" in attributes}
    assert len(anchors) == 22
    assert {f"#{anchor}" for anchor in anchors} <= set(links)


def test_verdicts_are_a_matrix_and_equal_remarks_are_one(tmp_path: Path) -> None:
    folder = tmp_path / "quick"
    fake.write_protocol(folder)
    for repeat in range(3):
        for model in ("unet", "eal_icnet", "fcn"):
            fake.write_run(folder, model, ["omc-syn"], repeat, fake.counts(0.9, fake.random_of(repeat)))
    build(folder, plots=())
    section = page_of(folder).partition('<section id="significance">')[2].partition("</section>")[0]
    matrix = section.partition("<tbody>")[2].partition("</tbody>")[0]
    assert re.findall(r'<td class="(\w+)"', matrix) == ["no"] * 4
    assert "FCN, UNet: no test: the difference is the same in every repeat" in section


def test_methods_without_training_that_beat_networks_are_named_first(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "eal_icnet"], ["omc-syn"], repeats=2)
    fake.write_counts(folder / "references/omc-syn.otsu.csv", fake.counts(0.999, fake.random_of("otsu")))
    build(folder, plots=())
    summary = page_of(folder).partition('<section id="summary">')[2].partition("</section>")[0]
    assert re.search(r"On omc-syn, Otsu threshold \([\d.]+ without any training\) beats all 2 networks\.", summary)
    assert re.search(r"<td>Otsu threshold</td><td class=\"r\"><strong>", summary)
    assert summary.count("<strong>") == 1


def test_large_tables_are_cut_and_say_so() -> None:
    column = Column("v", "V", higher_is_better=None)

    def block(name: str, rows: int) -> Block:
        created = tuple(Row(f"{name}{i}", f"{name}{i}", "user", {"v": Cell(i)}) for i in range(rows))
        return Block(name, name, {}, ("the same", name), (column,), created)

    shown = grids.show(Table("t", "T", (block("a", 300), block("b", 300))))
    assert ([len(lines) for grid in shown.grids for _, lines in grid.sections], shown.left_out) == ([300], 1)
    assert shown.conventions == ("the same",)
    assert shown.grids[0].conventions == ("a",)
    (alone,) = grids.show(Table("t", "T", (block("a", 1000),))).grids
    assert sum(len(lines) for _, lines in alone.sections) + alone.left_out == 1000
    assert alone.left_out == 600


def test_plots_beyond_their_room_are_named(tmp_path: Path) -> None:
    fake.write_efficiency(tmp_path, "unet")
    by_table = {plot.table: plot for plot in PLOTS}
    drawings = [
        Drawing(by_table[table], name, "", Markup(f"<svg>{name}{' ' * (PLOT_BYTES // 2)}</svg>"))
        for name, table in (("a", "training"), ("b", "training"), ("c", "bench"))
    ]
    page = page_with(tmp_path, drawings)
    assert re.findall("<svg>(.)", page) == ["a"]
    assert 'Not shown above, to keep this page small: b, <a href="plots/c.png">plots/c.png</a>.' in page


@pytest.mark.parametrize("layout", ["long", "wide"])
def test_metrics_of_a_table_for_a_paper_lead_to_their_definitions(
    tmp_path: Path, layout: Literal["long", "wide"]
) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "fcn"], ["omc-syn", "miic-syn"])
    build(folder, PaperChoice(columns=("aji.image", "aji.pooled", "opens", "params"), layout=layout), plots=())
    page = page_of(folder)
    section = page.partition('<section id="custom">')[2].partition("</section>")[0]
    assert re.findall(r'href="#metric-(\w+)"', section) == ["aji", "aji", "opens"] * 2
    assert page.count('id="metric-aji"') == page.count('id="metric-opens"') == 1


def test_metric_of_a_table_for_a_paper_alone_is_defined(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet"], ["omc-syn"])
    build(folder, PaperChoice(columns=("net_precision",)), plots=())
    assert 'id="metric-net_precision"' in page_of(folder)


def test_efficiency_alone_has_a_page(tmp_path: Path) -> None:
    for side in (64, 96):
        fake.write_efficiency(tmp_path, "unet", side)
    page = page_with(tmp_path)
    assert "efficiency alone, in 2 settings" in page
    assert len(Tables(page).tables) == 3
    assert io.StringIO(page).readline().startswith("<!doctype html>")


def test_comparisons_alone_have_a_page_that_tells_what_is_compared(tmp_path: Path) -> None:
    for model, what in (("unet", "forward"), ("fcn", "forward"), ("unet", "runtimes"), ("unet", "int8")):
        record = comparison(model=model, what=what, plain=(2.0, 2.1), ours=(1.0, 1.1))
        write_atomically(tmp_path / "bench" / record.file_name, record.to_json())
    page = page_with(tmp_path)
    said = "with the plain way of most repositories, 2 times; int8 with float32, 1 time; with other runtimes, 1 time"
    assert said in Tables(page).text
    assert "<h2>Speedup" in page


def test_pairs_of_models_are_a_matrix(tmp_path: Path) -> None:
    luck = np.random.default_rng(0)
    wrong = {"unet": 100, "eal_icnet": 200, "fcn": 200}
    models = {
        model: [[image(3000, pixels + int(luck.integers(-3, 4)))] * 8 for _ in range(6)]
        for model, pixels in wrong.items()
    }
    folder = write_models(tmp_path / "quick", models)
    build(folder, plots=())
    section = page_of(folder).partition('<section id="significance">')[2].partition("</section>")[0]
    rows = re.findall(r"<tr data-m.*?</tr>", section.partition("all pairs</h3>")[2])[:3]
    cells = [re.findall(r'<td class="(\w+)"', row) for row in rows]
    assert "1 UNet" in rows[0]
    assert cells == [["same", "better", "better"], ["worse", "same", "no"], ["worse", "no", "same"]]


def test_pairs_without_a_shown_difference_and_an_absent_reference_take_a_sentence_each(tmp_path: Path) -> None:
    folder = fake.write_study(tmp_path / "quick", ["unet", "fcn", "edanet"], ["omc-syn"], repeats=2)
    build(folder, plots=())
    section = page_of(folder).partition('<section id="significance">')[2].partition("</section>")[0]
    assert "No difference shown in any of the 3 pairs (" in section
    assert section.count("No table: EAL-ICNet") == 1


def test_single_training_has_one_seed(tmp_path: Path) -> None:
    page = page_with(fake.write_study(tmp_path / "quick", ["unet"], ["omc-syn"], repeats=1))
    assert "n = 1 training per model and dataset" in page
