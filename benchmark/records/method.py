"""Keeps the model that a study's report compares all others with."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from benchmark.config import smp_names
from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_limited, write_atomically

METHOD = "eal_icnet"  # where nothing else was chosen
FILE = "report/reference.txt"


def keep_method(folder: Path, model: str) -> None:
    """Let later reports of a study compare its models with this one."""
    write_atomically(folder / FILE, f"{model}\n".encode())


def kept_method(folder: Path) -> str:
    """Return the model that was chosen for a study's report, else EAL-ICNet."""
    try:
        return read_limited(folder / FILE, 1000).decode().strip()
    except (FileNotFoundError, NotADirectoryError):
        return METHOD
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / FILE}: cannot be read ({error}); delete it and choose --reference again") from error


def check_method(text: str, models: Collection[str]) -> str:
    """Return the name of a model that others can be compared with, given as ``--models`` takes it.

    Raises:
        UserError: it is not among ``models``.
    """
    name = text.rpartition(":")[2].lower() if ".py:" in text else smp_names.recorded(text)
    if name not in models:
        raise UserError(
            f"--reference {text!r}: not among the models{did_you_mean(name, models)}; expected one of "
            f"{', '.join(models)}"
        )
    return name
