"""Writes counts with their nouns."""

from __future__ import annotations


def plural(number: float | str, noun: str) -> str:
    """Return a noun's form beside a number, or beside the text of one or several numbers."""
    return noun if number in (1, "1") else f"{noun}s"


def counted(number: float | str, noun: str) -> str:
    """Return a number and its noun.

    Example:
        >>> counted(1, "run"), counted(0.5, "GPU"), counted("1 or 3", "repeat")
        ('1 run', '0.5 GPUs', '1 or 3 repeats')
    """
    return f"{number:g} {plural(number, noun)}" if isinstance(number, float) else f"{number} {plural(number, noun)}"
