"""Reads a command line's flags from a TOML file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_toml

SETTINGS = "settings"  # the table that stands for --set


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the defaults of a verb's flags from a file, for an eager option; flags of the command line win.

    Settings are kept in ``context.meta``, so that ``--set`` replaces only those that it names.

    Raises:
        UserError: the file cannot be read, or has a name that is no flag.
    """
    if file is None or context.resilient_parsing:
        return file
    parameters = {parameter.name: parameter for parameter in context.command.params if parameter.name}
    defaults: dict[str, Any] = {}
    for key, value in read_toml(file, f"--config {file}").items():
        name = key.replace("-", "_")
        if name == SETTINGS:
            if not isinstance(value, dict):
                raise UserError(
                    f"--config {file}: {SETTINGS} = {value!r}; expected a table [{SETTINGS}] of path = value"
                )
            context.meta[SETTINGS] = [f"{path}={_text(setting)}" for path, setting in _flat(value)]
        elif name not in parameters or name in ("config", "set_", "help"):
            known = [*(name for name in parameters if name not in ("config", "set_", "help")), SETTINGS]
            raise UserError(
                f"--config {file}: unknown {key!r}{did_you_mean(name, known)}; expected the names of flags: "
                f"{', '.join(known)}"
            )
        else:
            flag = getattr(parameters[name], "is_flag", False)
            if flag != isinstance(value, bool) or isinstance(value, dict):
                wanted = "true or false" if flag else "a text, a number or a list"
                raise UserError(f"--config {file}: {key} = {value!r}; expected {wanted}")
            defaults[name] = ",".join(map(str, value)) if isinstance(value, list) else value
    context.default_map = {**(context.default_map or {}), **defaults}
    return file


def _flat(table: Mapping[str, Any], group: str = "") -> list[tuple[str, Any]]:
    """Return the settings of a table and its tables, by their paths."""
    rows: list[tuple[str, Any]] = []
    for name, value in table.items():
        rows += _flat(value, f"{group}{name}.") if isinstance(value, dict) else [(f"{group}{name}", value)]
    return rows


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
