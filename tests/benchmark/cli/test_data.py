"""The verbs of ``benchmark data`` as a user meets them, from a download to a study."""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmark.data.synthetic import layout, routing
from tests.benchmark.conftest import TINY, Call, Measured, settings
from tests.benchmark.data.folder_makers import make_folder, picture, save

SIDE = 256


def owners_folder(root: Path, frames: int) -> Path:
    """HY5SYN as its owners ship it: SVG polygons, some of them twice, circles for vias, an image without label."""
    (root / "sems").mkdir(parents=True)
    (root / "labels").mkdir()
    rng = np.random.default_rng(0)
    drawings = (routing.hy5syn(rng, SIDE, SIDE) for _ in range(10 * frames))
    filled = itertools.islice((drawn for drawn in drawings if drawn.bars), frames)  # some windows are empty
    for number, drawn in enumerate(filled):
        shapes = [polygon(bar) for bar in drawn.bars]
        shapes += shapes[:2]
        shapes += [f'<circle cx="{v.centre[0]:.0f}" cy="{v.centre[1]:.0f}" r="11" fill="red" />' for v in drawn.vias]
        size = f'width="{SIDE}" height="{SIDE}" viewBox="0 0 {SIDE} {SIDE}"'
        text = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n' + "\n".join(shapes) + "\n</svg>"
        (root / "labels" / f"label{number:04d}.svg").write_text(text, "utf-8")
        save(root / "sems" / f"sem{number:04d}.png", picture(number, SIDE))
    save(root / "sems" / f"sem{frames:04d}.png", picture(frames, SIDE))
    return root


def polygon(bar: layout.MetalBar) -> str:
    (x0, x1), (y0, y1) = (sorted(pair) for pair in zip(bar.start, bar.end, strict=True))
    left, right = (round(x) for x in (x0 - bar.width / 2, x1 + bar.width / 2))
    top, bottom = (round(y) for y in (y0 - bar.width / 2, y1 + bar.width / 2))
    return f'<path d="M{left},{top} L{right},{top} L{right},{bottom} L{left},{bottom} Z" fill="lime" />'


def zipped(folder: Path, file: Path) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path("download") / path.relative_to(folder))
    return file


@pytest.mark.usefixtures("in_process")
def test_download_in_the_owners_layout_becomes_a_study_without_a_special_case(
    call: Call, measured: Measured, tmp_path: Path
) -> None:
    measured("quick")
    source = zipped(owners_folder(tmp_path / "shipped", 6), tmp_path / "hy5syn.zip")
    code, out, err = call("data", "prepare", "hy5syn", source)
    assert code == 0, err
    assert "7 images, 6 labels; 13 files copied, 0 there already" in out
    assert call("data", "prepare", "hy5syn", source)[1].count("0 files copied, 13 there already") == 1
    assert call("data", "prepare", "hy5syn", source)[1].endswith("next: python -m benchmark data verify hy5syn\n")
    elsewhere = call("data", "prepare", "hy5syn", source, "--data-root", "my data")
    assert elsewhere[1].endswith("next: python -m benchmark data verify hy5syn --data-root 'my data'\n"), elsewhere

    code, out, err = call("data", "verify", "hy5syn", "--protocol", "quick", *settings("split.counts=[3,2,1]"))
    assert code == 0, out + err
    result = json.loads(Path("data/.cache/verify/hy5syn.verify.json").read_text("utf-8"))
    assert result["ok"]
    assert next(row for row in result["rows"] if row["name"] == "images without label")["value"] == "1"

    code, out, err = call("data", "show", "hy5syn", "--count", "2")
    assert code == 0, err
    with Image.open(out.strip()) as sheet:
        assert sheet.width > 600

    code, out, err = call(
        *("run", "--models", f"{TINY}:TinyNet", "--datasets", "hy5syn", "--protocol", "quick", "--device", "cpu"),
        *("--threads", "1", "--repeats", "1", *settings()),
    )
    assert code == 0, out + err
    record = json.loads(next(Path("results").rglob("record.json")).read_text("utf-8"))
    assert record["train"] == ["hy5syn"]
    assert record["metrics"]["hy5syn"]["pooled"].keys() >= {"miou", "opens", "shorts"}
    lists = json.loads(Path("results/quick/splits/hy5syn.json").read_text("utf-8"))
    frames = {part: {name.split("_")[0] for name in lists[part]} for part in ("train", "val", "test")}
    assert not frames["train"] & frames["test"]
    assert Path("results/quick/report/tables/electrical.md").is_file()


def test_verify_ends_with_1_where_a_number_would_be_wrong(call: Call) -> None:
    make_folder(Path("data/omc"), ["a", "b", "c"], 64)
    label = np.zeros((64, 64), np.uint8)
    label[:8] = 127
    label[8:16] = 255
    save(Path("data/omc/label/b.png"), label)
    code, out, _ = call("data", "verify", "omc", "--protocol", "quick", *settings("split.counts=[1,1,1]"))
    assert code == 1
    assert "b.png" in out
    assert "127" in out


def test_verify_refuses_a_place_before_it_reads(call: Call) -> None:
    make_folder(Path("data/omc"), ["a", "b", "c"], 64)
    Path("file").write_bytes(b"")
    for flag, named in (("--out", "--out file"), ("--cache", "--cache (or --out) file/verify")):
        code, out, err = call("data", "verify", "omc", "--protocol", "quick", flag, "file")
        assert (code, out) == (2, "")
        assert f"{named}: " in err
        assert "file is a file; expected a folder to write to" in err


def test_names_and_links_that_are_no_datasets_are_told(call: Call) -> None:
    Path("data/my chip").mkdir(parents=True)
    Path("data/gone").symlink_to("nowhere")
    code, _, err = call("data", "verify", "my chip")
    assert code == 2
    assert "name 'my chip'; expected letters a to z, digits and . _ -, no sign first: rename the folder" in err
    for verb in ("show", "verify"):
        code, _, err = call("data", verb, "gone")
        assert code == 2
        assert "data/gone: a link that leads nowhere" in err
        assert "unknown dataset" not in err


def test_verify_tells_what_two_datasets_share(call: Call) -> None:
    make_folder(Path("data/omc"), ["a", "b", "c", "d"], 64)
    make_folder(Path("data/omv"), ["a", "b", "c"], 64)
    _, out, _ = call(
        "data", "verify", "omv", "--against", "omc", "--protocol", "quick", *settings("split.counts=[1,1,1]")
    )
    assert re.search(r"overlap with omc +3 of 3 tiles look like a tile there", out), out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["verify", "omc"], r"omc: no such folder; bring the data there (`benchmark data prepare omc DOWNLOAD`)"),
        (
            ["verify", "omc-syn"],
            r"omc-syn: no such folder; bring the data there (`benchmark data synthesize --datasets omc`)",
        ),
        (["verify", "om?"], "'om?' names 2 datasets (omc, omv); expected one"),
        (["verify", "omk"], "unknown dataset 'omk'; did you mean 'omv'?"),
        (["show", "omc", "--protocol", "papers"], "unknown protocol 'papers'"),
        (["show", "omc", "--out", "file/sheet.png"], "--out file: file is a file; expected a folder to write to"),
        (["show", "omc", "--cache", "file"], "--cache (or --out) file/show: "),
        (["synthesize", "--datasets", "omc", "--out", "file/omc"], "--out file/omc: "),
        (["prepare", "omc", "absent.zip"], "absent.zip"),
        (["prepare", "../omc", "file"], "../omc"),
        (["prepare", "omc", "file"], "file"),
    ],
)
def test_wrong_input_is_one_message_and_exit_code_2(call: Call, arguments: list[str], message: str) -> None:
    Path("file").write_bytes(b"not an archive")
    code, out, err = call("data", *arguments)
    assert code == 2, out + err
    assert message in err
    assert "Traceback" not in err
    assert not list(Path("data").glob("[!.]*"))


def test_show_draws_a_stand_in_where_there_is_no_folder(call: Call) -> None:
    code, out, err = call("data", "show", "miic", "--count", "2", "--protocol", "quick")
    assert code == 0, err
    assert out.strip() == str(Path("data/.cache/show/miic-syn.png"))
    assert Path(out.strip()).is_file()
    assert [path.name for path in Path().iterdir()] == ["data"]


def test_sheets_of_several_datasets_never_share_a_file(call: Call) -> None:
    code, out, err = call("data", "show", "om?", "--count", "1", "--protocol", "quick")
    assert code == 0, err
    assert [Path(line).name for line in out.splitlines()] == ["omc-syn.png", "omv-syn.png"]
    code, out, err = call("data", "show", "om?", "--count", "1", "--protocol", "quick", "--out", "sheet.png")
    assert (code, out) == (2, "")
    assert "--out sheet.png: one file for the sheets of 2 datasets (omc-syn, omv-syn)" in err
