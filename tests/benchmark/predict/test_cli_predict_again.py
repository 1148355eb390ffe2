"""The verb called again: what it skips, goes on with, and never replaces or mixes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.evaluation import sliding_window
from benchmark.predict import outputs
from tests.benchmark.data.folder_makers import save
from tests.benchmark.predict.conftest import Predict, contents, pixels_of


def test_same_call_skips_what_is_finished_and_writes_the_same_bytes(
    predict: Predict, tmp_path: Path, frame: np.ndarray
) -> None:
    for name in ("a.png", "b.tif", "c.png"):
        save(tmp_path / "images" / name, np.roll(frame, ord(name[0]), axis=1))
    assert predict("images")[0] == 0
    first = contents(tmp_path / "out")
    times = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first}
    code, out, _ = predict("images")
    assert code == 0
    assert out.count("finished before\n") == 4
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in first} == times
    assert predict("images", "--out", "again")[0] == 0
    assert contents(tmp_path / "again") == first


def test_interrupted_call_leaves_no_half_file_and_goes_on(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        save(tmp_path / f"{name}.png", frame)
    probabilities_of, count = sliding_window.probabilities_of, 0

    def interrupted(*arguments: Any) -> object:
        nonlocal count
        count += 1
        if count == 12:  # in the second of three images
            raise KeyboardInterrupt
        return probabilities_of(*arguments)

    monkeypatch.setattr(sliding_window, "probabilities_of", interrupted)
    code, out, _ = predict("a.png", "b.png", "c.png", "--batch", "4")
    assert code == 130
    assert "Interrupted. Finished images are kept; the same command goes on from here." in out
    assert sorted(contents(tmp_path / "out")) == ["manifest/a.json", "mask/a.png", "overlay/a.png", "polygons/a.svg"]
    code, out, _ = predict("a.png", "b.png", "c.png")
    assert code == 0
    assert "out: 2 predicted, 1 finished before" in out


def test_image_that_lost_a_file_is_predicted_again(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.png", frame)
    assert predict("a.png", "b.png")[0] == 0
    (tmp_path / "out/polygons/b.svg").unlink()
    assert "out: 1 predicted, 1 finished before" in predict("a.png", "b.png")[1]
    assert (tmp_path / "out/polygons/b.svg").is_file()


def test_results_of_another_image_of_the_same_name_are_not_replaced(
    predict: Predict, frame: np.ndarray, tmp_path: Path
) -> None:
    for name in "abc":
        save(tmp_path / f"one/{name}.png", frame)
    save(tmp_path / "two/a.png", frame[::-1])
    save(tmp_path / "two/0.png", frame)
    assert predict("one")[0] == 0
    before = contents(tmp_path / "out")
    code, _, err = predict("two")
    assert code == 2
    assert "two/a.png: --out out has results of another image of that name, or of this one before it changed" in err
    assert "name another --out for it, or remove what is of that name there (out/*/a.*)" in err
    assert contents(tmp_path / "out") == before  # and 0.png was not begun
    for path in (tmp_path / "out").glob("*/a.*"):
        path.unlink()
    assert predict("two")[0] == 0
    np.testing.assert_array_equal(pixels_of("out/mask/a.png"), (frame[::-1] >= 128) * np.uint8(255))


def test_file_without_a_manifest_is_not_replaced(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame)
    save(tmp_path / "out/mask/a.png", frame)
    before = contents(tmp_path / "out")
    code, _, err = predict("a.png")
    assert code == 2
    assert "a.png: --out out has out/mask/a.png, and no out/manifest/a.json that tells what it is of" in err
    assert contents(tmp_path / "out") == before


def test_call_killed_between_two_files_goes_on_without_those_there_were(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", frame)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(outputs, "write_shapes", killed)
        assert predict("a.png")[0] == 130
    assert "files" not in json.loads((tmp_path / "out/manifest/a.json").read_text())
    for stale in ("mask/a.tif", "vias/a.csv"):  # as a version with other limits may have left them
        (tmp_path / "out" / stale).parent.mkdir(exist_ok=True)
        (tmp_path / "out" / stale).touch()
    code, out, err = predict("a.png")
    assert code == 0, err
    assert "out: 1 predicted" in out
    assert sorted(contents(tmp_path / "out")) == ["manifest/a.json", "mask/a.png", "overlay/a.png", "polygons/a.svg"]
    assert predict("a.png", "--out", "fresh")[0] == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("--threshold", "0.7"), "threshold 0.5 there, 0.7 now"),
        (("--tile", "64"), "tile 32 there, 64 now; overlap 8 there, 16 now"),
        (("--probability",), "probability no there, yes now"),
        (("--datasets", "omv-syn"), "network omc-syn/tinynet/0 there, omv-syn/tinynet/0 now"),
    ],
)
def test_changed_arguments_are_noticed(
    predict: Predict, frame: np.ndarray, tmp_path: Path, change: tuple[str, ...], message: str
) -> None:
    save(tmp_path / "a.png", frame)
    save(tmp_path / "b.png", frame)
    assert predict("a.png")[0] == 0
    before = contents(tmp_path / "out")
    code, _, err = predict("b.png", *change)
    assert code == 2
    assert "--out out: holds predictions that were made otherwise" in err
    assert message in err
    assert contents(tmp_path / "out") == before
    assert predict("b.png", "--batch", "1")[0] == 0  # changes no result that anyone could see


def test_two_processes_with_different_settings_do_not_mix(
    predict: Predict, frame: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "a.png", frame)
    save(tmp_path / "b.png", frame)
    assert predict("b.png", "--threshold", "0.7", "--out", "other")[0] == 0
    probabilities_of = sliding_window.probabilities_of

    def meanwhile(*arguments: Any) -> object:  # the other process finishes while this one predicts
        shutil.copytree("other", "out", dirs_exist_ok=True)
        return probabilities_of(*arguments)

    monkeypatch.setattr(sliding_window, "probabilities_of", meanwhile)
    code, _, err = predict("a.png")
    assert code == 2
    assert "threshold 0.7 there, 0.5 now" in err
    assert contents(tmp_path / "out") == contents(tmp_path / "other")


def test_manifest_that_cannot_be_read_is_named(predict: Predict, frame: np.ndarray, tmp_path: Path) -> None:
    save(tmp_path / "a.png", frame)
    assert predict("a.png")[0] == 0
    for content in ("{", "[]", '{"settings": []}', '{"image": []}', '{"files": {}}'):
        (tmp_path / "out/manifest/a.json").write_text(content)
        code, _, err = predict("a.png")
        assert code == 2
        assert "out/manifest/a.json" in err
        assert "remove it, and its image is predicted again" in err
