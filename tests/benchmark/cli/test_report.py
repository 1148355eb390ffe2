"""The report verb as a user meets it: a table for a paper, refusals, and tables that follow from records alone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.records.store import Store
from tests.benchmark.conftest import Call, Measured, tiny_run
from tests.benchmark.report import fake

ROOT = Path(__file__).parents[3]
TABLES = Path("results/quick/report/tables")


def tables(study: str = "quick") -> dict[str, bytes]:
    report = Path("results", study, "report")
    return {path.name: path.read_bytes() for path in (*report.glob("tables/*"), report / "tables.tex")}


def without_torch(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command line in a process in which importing torch fails."""
    # Not `sys.modules["torch"] = None`: scipy looks there for libraries whose arrays it might have been given.
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(name, *_):\n"
        "        if name == 'torch': raise ImportError('no torch here')\n"
        "sys.meta_path.insert(0, NoTorch)\n"
        "from benchmark.cli.main import main; main()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}  # this checkout, whatever is installed
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def test_tables_follow_from_records_alone_and_runs_repeat_byte_for_byte(call: Call, measured: Measured) -> None:
    measured("quick")
    measured("again")
    code, out, err = call(*tiny_run(repeats=2))
    assert code == 0, out + err
    written = tables()
    assert {"accuracy.csv", "accuracy.tex", "electrical.md", "efficiency.csv", "numbers.tex", "tables.tex"} <= {
        *written
    }
    for path in (*TABLES.iterdir(), TABLES.parent / "tables.tex"):
        path.unlink()

    done = without_torch("report", "quick")

    assert done.returncode == 0, done.stderr
    assert tables() == written
    assert without_torch("report", "quick", "--check").returncode == 0
    assert "torch" in without_torch("run", "--dry-run", "--device", "cuda").stderr  # it really was out of reach

    assert call(*tiny_run("--study", "again", repeats=2))[0] == 0
    again = tables("again")
    same = [name for name in written if name.startswith(("accuracy", "electrical"))]
    assert len(same) == 6
    assert {name: again[name] for name in same} == {name: written[name] for name in same}


@pytest.fixture
def study(tmp_path: Path, call: Call) -> Path:
    return fake.write_study(tmp_path / "results/quick", ["eal_icnet", "unet"], ["omc-syn"], repeats=2)


def test_every_option_shapes_the_table_for_a_paper(study: Path, call: Call, tmp_path: Path) -> None:
    Path("lit.csv").write_text("model,dataset,metric,value,source\nSegNet,omc-syn,miou,91.2,Doe 2024\n")
    code, out, err = call(
        *("report", "quick", "--columns", "miou,opens,params", "--models", "eal_icnet,une*", "--digits", "0"),
        *("--reduction", "pooled", "--layout", "wide", "--extra", tmp_path / "lit.csv", "--cite"),
    )
    assert code == 0, err
    assert "report/tables/custom.tex" in out
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


def test_no_decimals_are_a_choice_too(study: Path, call: Call) -> None:
    assert call("report", "quick", "--digits", "0")[0] == 0
    assert re.search(r"\| UNet \| \S*\d\d\S* ± \d \|", (TABLES / "custom.md").read_text("utf-8"))


def test_check_exits_with_1_and_names_the_files(study: Path, call: Call) -> None:
    assert call("report", "quick")[0] == 0
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (0, "quick: page and tables are what the records give, and records what their counts give\n")

    (TABLES / "accuracy.tex").write_text("by hand")
    before = tables()
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (1, "results/quick/report/tables/accuracy.tex: differs from the records\n")
    assert tables() == before

    assert call("report", "quick")[0] == 0
    plot = next(Path("results/quick/report/plots").glob("*.pdf"))
    plot.unlink()
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (1, f"{plot}: missing\n")


@pytest.mark.parametrize(
    ("name", "pattern", "forged"),
    [
        ("record.json", r'("pooled": {\s*"miou": 0\.\d{4})\d', r"\g<1>"),  # one digit less
        ("images.omc-syn.csv", r"(?m)^(3.png,g1,0,)(\d+)", r"\g<1>1\2"),
    ],
)
def test_check_finds_a_record_that_its_counts_do_not_give(
    study: Path, call: Call, name: str, pattern: str, forged: str
) -> None:
    assert call("report", "quick")[0] == 0
    run = Path("results/quick/runs/omc-syn/unet/1")
    text, changes = re.subn(pattern, forged, (run / name).read_text())
    assert changes == 1
    (run / name).write_text(text)
    code, out, _ = call("report", "quick", "--check")
    assert code == 1
    assert out.count("does not agree") == 1
    assert f"{run}/record.json: does not agree with images.omc-syn.csv beside it: " in out
    assert re.search(r"miou \((image|pooled)\) is 0\.\d+, the counts give 0\.\d+\n", out)


def test_diff_answers_like_diff_and_without_torch(study: Path, call: Call) -> None:
    shutil.copytree(study, study.with_name("again"))
    assert call("diff", "quick", "again")[0] == 0
    fake.write_run(study.with_name("again"), "unet", ["omc-syn"], 1, fake.counts(0.5, fake.random_of("other")))
    done = without_torch("diff", "quick", "again")
    assert done.returncode == 1, done.stderr
    assert "numbers: 3 of 4 tests that both have finished are identical to the last bit" in done.stdout
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
    before = {path: path.read_bytes() for folder in (first, second) for path in folder.rglob("*") if path.is_file()}

    code, out, err = call("report", "quick", "other", "--columns", "miou")

    assert (code, err) == (0, "")
    assert "results/other+quick/report/tables/accuracy.md" in out
    assert tables("other+quick").keys() >= {"accuracy.md", "custom.csv"}
    assert b"Merged from the studies other, quick." in tables("other+quick")["accuracy.md"]
    assert call("report", "other", "quick", "--check")[0] == 0
    (Path("results/other+quick/report") / "tables/methods.tex").unlink()
    code, out, _ = call("report", "quick", "other", "--check")
    assert (code, out) == (1, "results/other+quick/report/tables/methods.tex: missing\n")
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
            ["quick", "--check", "--columns", "miou", "--cite"],
            r"--check with --columns, --cite: .*leave out one or the",
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


def test_studies_are_named_by_paths_too_and_the_last_lines_say_what_was_written(study: Path, call: Call) -> None:
    code, out, _ = call("report", "results/quick/", "--columns", "miou")
    assert code == 0
    summary, paper, page = out.splitlines()[-3:]
    assert re.fullmatch(r"results/quick/report: \d+ tables, \d+ plots and the page", summary)
    assert paper == "Table for a paper: results/quick/report/tables/custom.tex"
    assert page == "Open: results/quick/report/index.html"
    assert len(list(TABLES.glob("*.csv"))) == int(re.findall(r"\d+", summary)[0])
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
    assert out.splitlines()[-1] == "Open: results/elsewhere-quick+results-quick/report/index.html"
    table = tables("elsewhere-quick+results-quick")["accuracy.md"]
    assert b"Merged from the studies elsewhere/quick, results/quick." in table
    assert call("report", other, study, "--check")[0] == 0
    assert call("report", other, study, "--redact")[0] == 0
    page = Path("results/elsewhere-quick+results-quick/report-redacted/index.html").read_text("utf-8")
    assert "Merged from the studies quick (1), quick (2)." in page
    code, out, _ = call("diff", study, other)
    assert code == 1
    assert "only in elsewhere/quick: omc-syn hrnet" in out
