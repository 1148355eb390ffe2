"""The verbs that read a study, before and after `pack`, and `run`, which needs the folders."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import benchmark
from tests.benchmark.conftest import TINY, Call, tiny_run

RECORD = "results/quick/runs/omc-syn/tinynet/0/record.json"


def report_files() -> dict[str, bytes]:
    report = Path("results/quick/report")
    return {path.relative_to(report).as_posix(): path.read_bytes() for path in report.rglob("[!.]*") if path.is_file()}


def test_every_verb_reads_a_packed_study(finished: Path, call: Call) -> None:
    shutil.copytree(finished, finished.with_name("folders"))
    readers = (
        ("status",),
        ("report", "quick", "--check"),
        ("report", "quick", "--redact"),
        ("report", "quick", "--redact", "--check"),
        ("diff", "quick", "folders"),
        ("report", "quick", "folders", "--study", "both"),
        ("report", "quick", "folders", "--study", "both", "--check"),
    )
    before, answers = report_files(), [call(*words) for words in readers]
    images = benchmark.load("results/quick").table("images")
    assert [code for code, _, _ in answers] == [0] * len(answers)
    assert any(name.startswith("panels/") for name in before)

    code, out, _ = call("pack", "quick")

    assert (code, out.splitlines()) == (0, ["quick: 14 files packed into results/quick/packed"])
    assert call("pack", "quick")[1] == "quick: packed already\n"
    assert [path.name for path in Path(RECORD).parent.parent.rglob("*.json")] == []
    assert [call(*words) for words in readers] == answers
    assert call("report", "quick")[0] == 0
    assert report_files() == before
    pd.testing.assert_frame_equal(benchmark.load("results/quick").table("images"), images)
    code, out, _ = call("unpack", "quick")
    assert (code, out) == (0, "quick: 14 files unpacked\n")
    assert call("diff", "quick", "folders")[0] == 0
    assert call("report", "quick", "--check")[0] == 0


def test_weights_stay_and_predict(finished: Path, call: Call) -> None:
    Image.fromarray(np.full((64, 64), 128, np.uint8)).save("a.png")
    words = ("predict", "a.png", "--models", f"{TINY}:TinyNet", "--study", "quick", "--device", "cpu", "--out")
    assert call(*words, "before")[0] == 0
    assert call("pack", "quick")[0] == 0
    code, _, err = call(*words, "after")
    assert code == 0, err
    masks = [next(Path(name).rglob("*.png")).read_bytes() for name in ("before", "after")]
    assert masks[0] == masks[1]
    for file in finished.rglob("best.safetensors"):
        file.unlink()
    code, _, err = call(*words, "none")
    assert code == 2
    assert "no weights in results/quick/runs/omc-syn/tinynet; train that study with --keep-weights all" in err


@pytest.mark.usefixtures("in_process")
def test_run_reads_a_packed_study_and_needs_its_folders_for_more(finished: Path, call: Call) -> None:
    before = {path.name for path in finished.iterdir()}
    assert call("pack", "quick")[0] == 0
    again = tiny_run("--execution", "eager", repeats=2)
    code, _, err = call(*again)
    assert code == 0, err
    more = [word if word != "2" else "3" for word in again]
    for words in (more, [*more, "--dry-run"]):
        code, _, err = call(*words)
        assert code == 2
        assert "results/quick: is packed, and there is more to run; unpack it first (`unpack quick`)" in err
    assert not (finished / "runs/omc-syn/tinynet/2").exists()
    code, out, err = call("run", "--reproduce", RECORD, "--models", f"{TINY}:TinyNet", "--device", "cpu")
    assert (code, out.splitlines()[-3:-2]) == (0, ["omc-syn tinynet repeat 0: identical"]), out + err
    assert call("unpack", "quick")[0] == 0
    assert {path.name for path in finished.iterdir()} == before
    assert call(*more, "--dry-run")[0] == 0


def test_check_of_a_packed_study_needs_the_page_and_reads_what_is_there(finished: Path, call: Call) -> None:
    report = finished / "report"
    for file in [*report.rglob("*.pdf"), *report.rglob("*.tex"), *report.rglob("*.csv")]:
        file.unlink()
    assert call("report", "quick", "--check")[0] == 1
    assert call("pack", "quick")[0] == 0
    assert call("report", "quick", "--check")[0] == 0
    table = report / "tables/accuracy.md"
    table.write_text(table.read_text("utf-8") + "edited")
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (1, "results/quick/report/tables/accuracy.md: differs from the records\n")
    table.unlink()
    (report / "index.html").unlink()
    code, out, _ = call("report", "quick", "--check")
    assert (code, out) == (1, "results/quick/report/index.html: missing\n")


def test_name_that_is_no_study_is_refused(call: Call) -> None:
    for verb in ("pack", "unpack"):
        code, _, err = call(verb, "nothing")
        assert code == 2
        assert "results/nothing: no study there; expected a folder that `benchmark run` made" in err
