"""Reads a command line's flags from a TOML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from benchmark.utils.errors import UserError, did_you_mean
from benchmark.utils.files import read_toml

SETTINGS = "settings"  # the table that stands for --set
NOT_IN_FILES = ("config", "set_", "help", "reproduce")


def read_config(context: typer.Context, file: Path | None) -> Path | None:
    """Take the defaults of a verb's flags from a file, for an eager option; flags of the command line win.

    Settings are kept in ``context.meta``, so that ``--set`` replaces only those that it names.

    Raises:
        UserError: the file cannot be read, or has a name that is no flag.
    """
    if file is None or context.resilient_parsing:
        return file
    from benchmark.api.study_request import settings_of  # imports what no help needs

    parameters = {parameter.name: parameter for parameter in context.command.params if parameter.name}
    defaults: dict[str, Any] = {}
    for key, value in read_toml(file, f"--config {file}").items():
        name = key.replace("-", "_")
        if name in defaults:
            raise UserError(f"--config {file}: {key} is there twice, with - and with _; keep one")
        if name == SETTINGS:
            if not isinstance(value, dict):
                raise UserError(
                    f"--config {file}: {SETTINGS} = {value!r}; expected a table [{SETTINGS}] of path = value"
                )
            context.meta[SETTINGS] = list(settings_of(value))
        elif name not in parameters or name in NOT_IN_FILES:
            known = [*(name for name in parameters if name not in NOT_IN_FILES), SETTINGS]
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


def drop_replaced(context: typer.Context, flags: dict[str, Any], settings: Sequence[str]) -> None:
    """Take out of ``flags`` what only a file says and what flags typed here replace.

    Args:
        context: the call.
        flags: by the names of parameters.
        settings: typed with ``--set``.
    """
    typed = {name for name in flags if (source := context.get_parameter_source(name)) and source.name == "COMMANDLINE"}
    typed -= set() if flags["leave_one_out"] else {"leave_one_out"}  # --no-leave-one-out replaces no other flag
    defaults = {parameter.name: parameter.default for parameter in context.command.params}
    for names in (("datasets", "leave_one_out"), ("train", "test")):
        if typed & set(names):
            others = {"datasets", "train", "test", "leave_one_out"} - set(names)
            flags |= {name: defaults[name] for name in others - typed}
    if "repeats" not in typed and any(setting.startswith("repeats=") for setting in settings):
        flags["repeats"] = None


def describe_other_study(file: Path | None, study: Path) -> str:
    """Say that a file is the one of another study than the call works in; blank where it is not."""
    if file is None or not (file.parent / "protocol.toml").is_file() or file.parent.resolve() == study.resolve():
        return ""
    return f"note: {file} is of the study {file.parent}, and this call works in {study}"
