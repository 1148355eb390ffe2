"""Finds the folders that users name: of studies and of data."""

from __future__ import annotations

import os
from pathlib import Path

from benchmark.records.packed_study import has_runs
from benchmark.utils.errors import UserError
from benchmark.utils.files import no_folder

DATA_ROOT = Path("data")


def check_data_root(data_root: Path) -> None:
    """Refuse a mistyped path, which would otherwise quietly train on stand-ins."""
    if data_root != DATA_ROOT and not data_root.is_dir():
        raise UserError(f"--data-root {data_root}: {no_folder(data_root)}; create it or correct the path")


def study_folder(results: Path, name: str, flag: str = "--study") -> Path:
    """Return a study's folder; refuse a name with separators or a leading dot."""
    if not name or any(mark in name for mark in "/\\:") or name.startswith("."):
        raise UserError(
            f"{flag} {name!r}: expected a plain name without path separators or a leading dot; --results names the "
            "study's folder"
        )
    return results / name


def find_study(results: Path, text: str, flag: str = "--study") -> Path:
    """Return the folder of a study that exists, from its name below ``--results`` or its path (``results/quick/``)."""
    if not any(mark in text for mark in {"/", os.sep}) and text not in (".", ".."):
        return study_folder(results, text, flag)
    folder = Path(text)
    if not folder.is_dir():
        raise UserError(f"{flag} {text}: {no_folder(folder)}; expected a study's folder, or its name below {results}")
    return folder.resolve() if folder.name in ("", "..") else folder


def find_training(results: Path, text: str, flag: str) -> tuple[Path, str]:
    """Return a study's folder as :func:`find_study`, and the training set after a colon, blank without one."""
    study, _, trained_on = text.rpartition(":")
    if not study or any(mark in trained_on for mark in {"/", os.sep}):  # the colon of a drive, as in C:\results
        study, trained_on = text, ""
    return find_study(results, study, flag), trained_on


def find_trained_study(results: Path, text: str) -> Path:
    """Return the folder of a study that has begun trainings, since only they leave weights."""
    folder = find_study(results, text)
    if not has_runs(folder):
        missing = "no runs there" if folder.is_dir() else no_folder(folder)
        raise UserError(
            f"--study {text}: no study in {folder} ({missing}); expected a folder that `benchmark run` made"
        )
    return folder
