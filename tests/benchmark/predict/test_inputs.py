"""Files, folders and wildcards of a command line as images."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.predict.inputs import expand
from benchmark.utils.errors import UserError
from tests.benchmark.data.folder_makers import picture, save


def test_hidden_files_of_a_folder_are_left_out(tmp_path: Path) -> None:
    for name in (".a.png", "b.png"):
        save(tmp_path / name, picture(0))
    assert [path.name for path in expand([str(tmp_path)], print)] == ["b.png"]
    assert [path.name for path in expand([str(tmp_path / ".a.png")], print)] == [".a.png"]


def test_folders_inside_a_folder_are_told(tmp_path: Path) -> None:
    save(tmp_path / "a.png", picture(0))
    save(tmp_path / "more" / "b.png", picture(1))
    notes: list[str] = []
    assert [path.name for path in expand([str(tmp_path)], notes.append)] == ["a.png"]
    assert notes == [f"{tmp_path}: 1 folder not searched, such as more; '{tmp_path}/**/*' names all"]
    assert [path.name for path in expand([f"{tmp_path}/**/*"], notes.append)] == ["a.png", "b.png"]
    assert len(notes) == 1


@pytest.mark.parametrize(("argument", "named"), [("", "''"), ("no.png", "no.png"), ("*.png", r"\*.png")])
def test_argument_without_images_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argument: str, named: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.tif").touch()
    with pytest.raises(UserError, match=f"^{named}: no image; expected a file, a folder or a wildcard of .bmp"):
        expand([argument], print)


def test_names_that_differ_in_their_form_of_unicode_are_one(tmp_path: Path) -> None:
    for name in ("\u00e9.png", "e\u0301.tif"):
        save(tmp_path / name, picture(0))
    with pytest.raises(UserError, match="has the same stem"):
        expand([str(tmp_path)], print)
