"""Derives a named seed for every random draw from one base seed."""

from __future__ import annotations

import hashlib


def derive(base: int, *labels: str | int) -> int:
    """Return a 63-bit seed for a purpose, such as ``derive(0, "order", "omc-syn", repeat)``.

    Splits and stand-ins use (base, dataset); initialisation, order and augmentation use (base, dataset, repeat); the
    model is never part of it, so that the repeats of two models pair up.
    """
    text = "\0".join(str(part) for part in (base, *labels))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
