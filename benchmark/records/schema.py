"""Defines the base of all stored facts: frozen, strict, without NaN, readable JSON."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, ConfigDict, ValidationError


class Frozen(BaseModel):
    """Validated facts; no field changes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def fault(error: Exception) -> str:
    """Return in one line of printable text why a file could not be read."""
    if not isinstance(error, ValidationError):
        return getattr(error, "strerror", None) or str(error)
    problems = error.errors(include_url=False)
    field = ".".join(str(part) for part in problems[0]["loc"])[:100] or "content"
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    text = f"{field}: {problems[0]['msg']}{more}"
    return "".join(character if character.isprintable() else "?" for character in text)


class Filed(Frozen):
    """Facts in a file of their own."""

    def to_json(self) -> bytes:
        """Return readable JSON."""
        return (self.model_dump_json(by_alias=True, indent=1) + "\n").encode()

    @classmethod
    def from_json(cls, content: bytes) -> Self:
        """Read what :meth:`to_json` wrote.

        Raises:
            pydantic.ValidationError: broken JSON, or fields that the schema does not have.
        """
        return cls.model_validate_json(content)
