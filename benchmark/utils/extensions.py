"""Finds losses, transforms and metrics that installed packages register by entry points."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from importlib import metadata
from types import MappingProxyType
from typing import Any, Literal

from benchmark.utils.errors import UserError

Kind = Literal["losses", "transforms", "metrics"]


def group(kind: Kind) -> str:
    """Return the group of entry points: ``eal_icnet_benchmark.losses``, ``.transforms`` or ``.metrics``."""
    return f"eal_icnet_benchmark.{kind}"


@functools.cache
def installed(kind: Kind) -> Mapping[str, metadata.EntryPoint]:
    """Return the entry points of a kind by name, not loaded; cached since a look at all packages takes 20 ms."""
    return MappingProxyType({point.name: point for point in metadata.entry_points(group=group(kind))})


@functools.cache
def load(kind: Kind, name: str) -> Any:
    """Import what an installed package registers under a name.

    Raises:
        UserError: no package registers the name, or it cannot be imported.
    """
    point = installed(kind).get(name)
    if point is None:
        raise UserError(f"no installed package registers {name!r} as an entry point of the group {group(kind)!r}")
    try:
        return point.load()
    except Exception as error:  # an import runs the package's code, which may raise anything
        raise UserError(
            f"entry point {name!r} = {point.value!r} of {group(kind)!r}: cannot be imported "
            f"({type(error).__name__}: {error})"
        ) from error


@functools.cache
def imports(kind: Kind, name: str) -> bool:
    """Return whether what a package registers can be imported; if not, warn once."""
    try:
        load(kind, name)
    except UserError as error:
        print(f"benchmark: warning: {error}; it is left out", file=sys.stderr)
        return False
    return True
