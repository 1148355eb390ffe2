"""Holds the files of a predicted image and facts about them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.utils.files import write_atomically


@dataclass
class WrittenFiles:
    """An image's written files, notes for the user, and numbers of foreground pixels and of sought components.

    Numbers are by layer, whose name is blank if there is a single one; ``colours`` are those of the overlay's layers.
    """

    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    foreground_px: dict[str, int] = field(default_factory=dict)
    components: dict[str, int] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)

    def keep(self, path: Path, content: bytes) -> None:
        """Write a file."""
        write_atomically(path, content)
        self.files.append(path)

    def facts(self) -> dict[str, object]:
        """Return the numbers as a manifest holds them: of a single layer without its name."""
        numbers: Mapping[str, dict[str, int]] = {"foreground_px": self.foreground_px, "components": self.components}
        facts: dict[str, object] = {
            name: of.get("") if "" in self.foreground_px else of for name, of in numbers.items()
        }
        return facts | ({"colours": self.colours} if self.colours else {})
