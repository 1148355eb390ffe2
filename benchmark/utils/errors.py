"""Errors that a user can mend, and the words that they share."""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user's that the command line prints as one message and answers with exit code 2.

    The message names the file or flag, what was found, what was expected and the remedy.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the nearest known name, or ``""`` where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else ""


def require(*packages: str, flag: str, extra: str) -> None:
    """Refuse a flag whose packages are not installed.

    Raises:
        UserError: names what is missing and the extra that installs it.
    """
    if reason := missing_packages(*packages, extra=extra):
        raise UserError(f"{flag}: {reason}")


def missing_packages(*packages: str, extra: str) -> str:
    """Return which packages are not installed, and the extra that installs them; blank if all are."""
    specs = {package: importlib.util.find_spec(package) for package in packages}
    # Python takes any folder of a package's name, such as W&B's `wandb`, for a package without an origin.
    missing = [package for package, spec in specs.items() if getattr(spec, "origin", spec) is None]
    if not missing:
        return ""
    are = "are" if len(missing) > 1 else "is"
    return f"{', '.join(missing)} {are} not installed; pip install -e '.[{extra}]'"
