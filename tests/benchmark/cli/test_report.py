"""The report verb as a user meets it: a table for a paper, refusals, and tables that follow from records alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.records.store import Store
from tests.benchmark.conftest import Call
from tests.benchmark.report import fake

ROOT = Path(__file__).parents[3]
TABLES = Path("results/quick/report/tables")


def tables(study: str = "quick") -> dict[str, bytes]:
    report = Path("results", study, "report")
    return {path.name: path.read_bytes() for path in (*report.glob("tables/*"), report / "tables.tex")}


def without_torch(*command_lines: str) -> tuple[list[int | str], str]:
    """Run command lines where torch cannot be imported, and networks and pyplot are not: exit codes, and the output.

    The first plot takes the place of all, in the page and as a file of each kind.
    """
    # Not `sys.modules["torch"] = None`: scipy looks there for libraries whose arrays it might have been given.
    code = (
        "import json, sys\n"
        "class NoTorch:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'torch': raise ImportError('no torch here')\n"
        "sys.meta_path.insert(0, NoTorch)\n"
        "from benchmark.cli.main import main\n"
        "from benchmark.report.page import drawings\n"
        "from benchmark.report.plots import plot_style\n"
        "def first(draw, key):\n"
        "    drawn = {}\n"
        "    return lambda figure, to: drawn.get(key(to)) or drawn.setdefault(key(to), draw(figure, to))\n"
        "plot_style.save, drawings.to_svg = first(plot_style.save, str), first(drawings.to_svg, bool)\n"
        "codes = []\n"
        "for line in sys.argv[1:]:\n"
        "    sys.argv = ['benchmark', *line.split()]\n"
        "    try: main()\n"
        "    except SystemExit as end: codes.append(end.code or 0)\n"
        "    except ImportError as error: codes.append(str(error))\n"
        "assert not {'models', 'baselines', 'matplotlib.pyplot'} & {*sys.modules}\n"
        "print(json.dumps(codes))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, whatever is installed
    process = subprocess.run(
        [sys.executable, "-c", code, *command_lines],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert process.returncode == 0, process.stderr
    out, _, codes = process.stdout.strip().rpartition("\n")
    return json.loads(codes), out


def test_tables_follow_from_records_alone_and_need_no_torch(finished: Path) -> None:
    before = tables()
    assert {"accuracy.csv", "accuracy.tex", "electrical.md", "efficiency.csv", "numbers.tex", "tables.tex"} <= {*before}
    for path in (*TABLES.iterdir(), TABLES.parent / "tables.tex"):
        path.unlink()
    shutil.copytree(finished, finished.with_name("other"))
    fake.write_run(finished.with_name("other"), "tinynet", ["omc-syn"], 1, fake.counts(0.5, fake.random_of("other")))

    codes, out = without_torch(
        "report quick", "report quick --check", "diff quick other", "run --dry-run --device cuda"
    )

    assert codes == [0, 0, 1, "no torch here"]
    assert tables() == before
    assert "numbers: identical to the last bit in 1 of 2 tests that both have finished" in out


@pytest.fixture
def study(tmp_path: Path, call: Call) -> Path:
    """A study without efficiency figures, whose plots would take most of the time."""
    folder = fake.write_study(tmp_path / "results/quick", ["eal_icnet", "unet"], ["omc-syn"], repeats=2)
    shutil.rmtree(folder / "efficiency")
    return folder


def test_every_option_shapes_the_table_for_a_paper(study: Path, call: Call, tmp_path: Path) -> None:
    fake.write_efficiency(study, "unet")
    Path("lit.csv").write_text("model,dataset,metric,value,source\nSegNet,omc-syn,miou,91.2,Doe 2024\n")
    code, out, err = call(
        *("report", "quick", "--columns", "miou,opens,params", "--models", "eal_icnet,une*", "--digits", "0"),
        *("--reduction", "pooled", "--layout", "wide", "--extra", tmp_path / "lit.csv", "--cite"),
    )
    assert code == 0, err
    assert "report/tables/custom.tex" in out
    assert "--cite: no paper of EAL-ICNet is known" in err
    written = [file.read_text("utf-8") for file in TABLES.parent.rglob("*.*") if file.suffix not in {".pdf", ".png"}]
    assert not [text for text in written if str(tmp_path) in text]
    text = (TABLES / "custom.md").read_text("utf-8")
    assert "Reduction: pooled" in text
    assert re.search(r"\| UNet \| \S*\d\d\S* ± \d \| \S*\d+\S* ± \d \| \S*13\.394\S* \|", text)
    assert "| SegNet † | 91 | – | – |" in text
    assert "Otsu" not in text
    assert r"\cite{ronneberger2015unet}" in (TABLES / "custom.tex").read_text()
    assert "@inproceedings{ronneberger2015unet," in (TABLES / "references.bib").read_text()
    assert r"\bibitem{ronneberger2015unet}" in (TABLES.parent / "tables.tex").read_text()


def test_check_exits_with_1_and_names_the_files(study: Path, call: Call) -> None:
    assert call("report", "quick")[0] == 0
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (0, "quick: page and tables are what the records give, and records what their counts give\n")

    (TABLES / "accuracy.tex").write_text("by hand")
    plot = next(Path("results/quick/report/plots").glob("*.pdf"))
    plot.unlink()
    before = tables()
    code, out, _ = call("report", "quick", "--check")
    lines = ["results/quick/report/tables/accuracy.tex: differs from the records", f"{plot}: missing"]
    assert (code, out.splitlines()) == (1, lines)
    assert tables() == before


def test_diff_answers_like_diff(study: Path, call: Call) -> None:
    shutil.copytree(study, study.with_name("again"))
    assert call("diff", "quick", "again")[0] == 0
    code, _, err = call("diff", "quick", "nowhere")
    assert code == 2
    assert "results/nowhere/protocol.toml: no such file" in err
    assert len(err.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--columns", "miuo"], r"--columns 'miuo': no such column; did you mean 'miou'\?"),
        (["--models", "unett"], r"unknown model 'unett'; did you mean 'unet'\?"),
        (["--models", "fcn"], r"--models 'fcn': not in this study, which has eal_icnet, unet, otsu, background"),
        (["--extra", "lit.csv"], r"--extra lit\.csv: cannot be read"),
        (["--digits", "9"], r"--digits.*less than or equal to 6"),
        (["--layout", "square"], r"(?s)--layout.*square"),
    ],
)
def test_wrong_options_are_one_message_and_exit_code_2(
    study: Path, call: Call, arguments: list[str], message: str
) -> None:
    code, _, err = call("report", "quick", *arguments)
    assert code == 2
    assert re.search(message, err), err
    assert "Traceback" not in err
    assert not TABLES.exists()


def test_broken_record_is_named_on_stderr_and_in_the_tables_and_the_rest_is_reported(study: Path, call: Call) -> None:
    file = study / "runs/omc-syn/unet/1/record.json"
    file.write_text('{"schema": 1, "status": "ok"')
    before = file.read_bytes()

    code, _, err = call("report", "quick")

    assert code == 0
    assert re.search(r"unet/1/record\.json: not a valid record .*; left out of the report", err)
    for table in ("accuracy.md", "accuracy.csv", "accuracy.tex", "electrical.md"):
        text = (TABLES / table).read_text()
        assert "eal_icnet" in text or "EAL-ICNet" in text
        assert table.endswith("csv") or "records are broken: omc-syn/unet/1." in text
    assert file.read_bytes() == before
    assert call("report", "quick", "--check")[0] == 0


def test_study_of_broken_records_alone_says_so(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "results/quick"
    fake.write_protocol(folder)
    (fake.write_run(folder, "unet", ["omc"], 0, None) / "record.json").write_text("{}")
    code, _, err = call("report", "quick")
    assert code == 2
    assert "nothing to report, since every record is broken" in err


def test_several_studies_become_one_report_beside_them_which_is_checked_in_any_order(study: Path, call: Call) -> None:
    first = settled(study)
    second = settled(fake.write_study(study.with_name("other"), ["hrnet"], ["omc-syn"], repeats=2))
    shutil.rmtree(second / "efficiency")
    before = {path: path.read_bytes() for folder in (first, second) for path in folder.rglob("*") if path.is_file()}

    code, out, err = call("report", "quick", "other", "--columns", "miou")

    assert (code, err) == (0, "")
    assert "results/other+quick/report/tables/custom.tex" in out
    assert tables("other+quick").keys() >= {"accuracy.md", "custom.csv"}
    assert b"Merged from the studies other, quick." in tables("other+quick")["accuracy.md"]
    page = Path("results/other+quick/report/index.html").read_text("utf-8")
    assert "This command merges the studies again." in page
    assert "These commands repeat the whole study" not in page
    assert call("report", "other", "quick", "--check")[0] == 0
    (Path("results/other+quick/report") / "tables/methods.tex").unlink()
    code, out, _ = call("report", "quick", "other", "--check")
    assert (code, out) == (1, "results/other+quick/report/tables/methods.tex: missing\n")
    code, _, err = call("report", "other+quick", "--check")
    assert code == 2
    assert "results/other+quick: holds no runs, only the report of other studies; name these instead" in err
    assert call("report", "other", "quick", "quick", "--study", "all")[0] == 0
    assert tables("all")["accuracy.csv"] == tables("other+quick")["accuracy.csv"]
    assert {
        path: path.read_bytes() for folder in (first, second) for path in folder.rglob("*") if path.is_file()
    } == before


def settled(folder: Path) -> Path:
    """Let a study's records be of the settings that its protocol has."""
    store = Store(folder)
    protocol = store.read_protocol()
    assert protocol is not None
    for run, record in store.records():
        parts = record.key_parts.model_copy(update={"protocol": protocol.digest()})
        (run / "record.json").write_bytes(record.model_copy(update={"key_parts": parts}).to_json())
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["quick", "other"], r"other and quick: made under different settings.*training\.lr: 0\.5 -> 0\.002"),
        (["quick", "nowhere"], r"results/nowhere: no study there"),
        (
            ["quick", "--study", "all"],
            r"--study all: names the folder for a report of several studies, found only quick",
        ),
        (["quick", "other", "--study", "third"], r"results/third: is a study itself; choose another --study NAME"),
        (["quick", "other", "--study", "a/b"], r"--study 'a/b': expected a plain name"),
        (
            ["quick", "--check", "--columns", "miou", "--digits", "0", "--cite"],
            r"--check with --columns, --digits, --cite: .*leave out one or the",
        ),
    ],
)
def test_reports_that_cannot_be_are_one_message_and_exit_code_2(
    study: Path, call: Call, arguments: list[str], message: str
) -> None:
    settled(study)
    for name in ("other", "third"):
        other = study.with_name(name)
        fake.write_protocol(other, "training.lr=0.5")
        fake.write_run(other, "hrnet", ["omc-syn"], 0, fake.counts(0.9, fake.random_of("hrnet")))
        settled(other)
    code, _, err = call("report", *arguments)
    assert code == 2
    assert re.search(message, err), err
    assert len(err.strip().splitlines()) == 1
    assert not list(study.parent.glob("*/report"))


def test_studies_are_named_by_paths_too_and_few_lines_say_what_was_written(study: Path, call: Call) -> None:
    code, out, _ = call("report", "results/quick/", "--columns", "miou")
    assert code == 0
    page, summary, paper = out.splitlines()
    assert page == "Report: results/quick/report/index.html"
    assert re.fullmatch(r"Beside it: \d+ tables, \d+ plots; -v lists all files", summary)
    assert paper == "Table for a paper: results/quick/report/tables/custom.tex"
    assert len(list(TABLES.glob("*.csv"))) == int(re.findall(r"\d+", summary)[0])
    files = {str(path) for path in Path("results/quick/report").rglob("[!.]*") if path.is_file()}
    assert set(call("report", "quick", "-v")[1].splitlines()[3:]) == files
    assert call("report", str(study.resolve()), "--check")[0] == 0
    for verb in (["report"], ["diff", "quick"]):
        code, _, err = call(*verb, "elsewhere/quick")
        assert code == 2
        assert "elsewhere/quick: no such folder" in err


def test_studies_of_one_name_from_two_places_become_one_report(study: Path, call: Call) -> None:
    settled(study)
    other = settled(fake.write_study(Path("elsewhere/quick"), ["hrnet"], ["omc-syn"], repeats=2))

    code, out, err = call("report", "quick", other, f"{study}/")

    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Report: results/elsewhere-quick+results-quick/report/index.html"
    table = tables("elsewhere-quick+results-quick")["accuracy.md"]
    assert b"Merged from the studies elsewhere/quick, results/quick." in table
    assert call("report", other, study, "--check")[0] == 0
    assert call("report", other, study, "--redact")[0] == 0
    page = Path("results/elsewhere-quick+results-quick/report-redacted/index.html").read_text("utf-8")
    assert "Merged from the studies quick (1), quick (2)." in page
    code, out, _ = call("diff", study, other)
    assert code == 1
    assert "only in elsewhere/quick: omc-syn hrnet" in out
