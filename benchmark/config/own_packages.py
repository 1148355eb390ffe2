"""Makes sure that this project's own packages run, whatever the current folder holds."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from benchmark.utils.errors import UserError

#: The packages whose sources can change a number.
CODE = ("benchmark", "models", "baselines")
#: The folder that holds them.
ROOT = Path(__file__).resolve().parents[2]


def is_own(file: Path) -> bool:
    """Tell whether a file belongs to this project's packages."""
    real = file.resolve()  # once, since it asks the disk for every folder above
    return any(real.is_relative_to(ROOT / name) for name in CODE)


def leave_current_folder() -> None:
    """Take the current folder out of ``sys.path``, where Python's ``-m`` puts it, unless this project lies there."""
    if not sys.flags.safe_path and sys.path and Path(sys.path[0]).resolve() == Path.cwd() != ROOT:
        del sys.path[0]


def refuse_hidden() -> None:
    """Refuse to run where Python finds packages of somebody else under this project's names.

    Raises:
        UserError: names the folder that hides them.
    """
    for name in CODE:
        try:
            spec = importlib.util.find_spec(name)
        except ValueError:  # a module that somebody put together by hand
            spec = None
        folders = list(spec.submodule_search_locations or [spec.origin or ""]) if spec else []
        if not folders:
            raise UserError(f"package {name!r}: not found; expected it in {ROOT}: install the benchmark again")
        if Path(folders[0]).resolve() != ROOT / name:
            raise UserError(
                f"package {name!r}: found in {folders[0]}, which hides the benchmark's own in {ROOT / name}; take "
                f"{os.path.dirname(os.path.abspath(folders[0]))} out of PYTHONPATH or start in another folder"
            )
