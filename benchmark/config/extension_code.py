"""Checks and identifies the packages' code and the encoder's weights in a protocol."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, get_args

from benchmark.config import network_files
from benchmark.config.training_settings import LossOfLogits
from benchmark.utils import extensions
from benchmark.utils.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from benchmark.config.protocol import Protocol


def identities(protocol: Protocol) -> dict[str, str]:
    """Return version or content hash of the installed losses and transforms in use, such as ``losses.mine: lab 1.2``.

    The file of the encoder's first weights is under ``encoder_weights``.

    Raises:
        UserError: the protocol names a loss, transform or file that is unknown or cannot be used.
    """
    found = {f"{kind}.{name}": identity(kind, name) for kind, name in _used(protocol)}
    if (file := protocol.training.encoder_file) is None:
        return found
    try:
        return found | {"encoder_weights": hashlib.sha256(file.read_bytes()).hexdigest()[:16]}
    except (OSError, ValueError) as error:  # ValueError: no name of a file
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(
            f"training.encoder_weights: found {str(file)!r}, which cannot be read ({reason})"
            f"{did_you_mean(str(file), ['imagenet', 'none'])}; expected none, imagenet or a file of weights"
        ) from error


def refuse_changed(protocol: Protocol) -> None:
    """Refuse a run whose losses or transforms are no longer those of its plan.

    Raises:
        UserError: names them with the versions of the plan and of now.
    """
    if (now := identities(protocol)) != protocol.extensions:
        raise UserError(
            "losses and transforms of installed packages, and the encoder's weights, were "
            f"{protocol.extensions} when this run was planned and are {now} now; run the same command again"
        )


def _used(protocol: Protocol) -> Iterator[tuple[extensions.Kind, str]]:
    for path, name, built_in in (
        ("loss.name", protocol.loss.name, (*get_args(LossOfLogits), "scnp")),
        ("loss.scnp_inside", protocol.loss.scnp_inside, get_args(LossOfLogits)),
    ):
        if name not in built_in:
            _refuse_unknown(path, name, "losses", built_in)
            yield "losses", name
        elif name in extensions.installed("losses"):
            raise UserError(
                f"entry point {name!r} of {extensions.group('losses')!r}: the name is taken; rename it in that "
                "package's metadata"
            )
    for name in protocol.photometric.transforms:
        _refuse_unknown("photometric.transforms", name, "transforms", ())
        yield "transforms", name


def _refuse_unknown(path: str, name: str, kind: extensions.Kind, built_in: tuple[str, ...]) -> None:
    known = [*built_in, *extensions.installed(kind)]
    if name not in known:
        raise UserError(
            f"{path}: found {name!r}{did_you_mean(name, known)}; expected {', '.join(known) or 'none'}: installed "
            f"packages add {kind} by entry points of the group {extensions.group(kind)!r}"
        )
    if not callable(extensions.load(kind, name)):
        raise UserError(f"{path}: entry point {name!r} of {extensions.group(kind)!r} is no function")


def identity(kind: extensions.Kind, name: str) -> str:
    """Return a package's version, or the hash of its files if it is installed as editable."""
    point = extensions.installed(kind)[name]
    files = network_files.digests(network_files.package_code(point.module))  # of an editable package
    if files:
        return hashlib.sha256("".join(f"{file} {digest}\n" for file, digest in files.items()).encode()).hexdigest()[:16]
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.value
