"""The outcome of a check of a dataset's folder, as a table for the terminal, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from benchmark.utils.files import write_atomically


class FindingRow(BaseModel):
    """One line of the table.

    Attributes:
        name: what was looked at.
        value: what was found.
        problem: why a study's numbers would be wrong; empty where they would not.
        warning: what is worth knowing and changes no number.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    value: str
    problem: str = ""
    warning: str = ""


class Verification(BaseModel):
    """What a check of a dataset's folder found."""

    model_config = ConfigDict(frozen=True)

    dataset: str
    root: str
    protocol: str
    rows: tuple[FindingRow, ...]

    @property
    def ok(self) -> bool:
        """Whether a study's numbers would be right, as far as the files can tell."""
        return not any(row.problem for row in self.rows)

    @property
    def _summary(self) -> str:
        problems, warnings = (sum(bool(getattr(row, kind)) for row in self.rows) for kind in ("problem", "warning"))
        return f"{self.dataset} under protocol {self.protocol}: {problems} problem(s), {warnings} warning(s)"

    def to_table(self) -> Table:
        """Return the table for a terminal, problems in red and warnings in yellow."""
        table = Table(title=self._summary, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for heading in ("what", "found", "problem or warning"):
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            remark = Text(row.problem, "red")
            remark.append("\n" if row.problem and row.warning else "")
            remark.append(row.warning, "yellow")
            table.add_row(Text(row.name), Text(row.value), remark)
        return table

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"# {self._summary}", "", "| what | found | problem | warning |", "|---|---|---|---|"]
        for row in self.rows:
            cells = (row.name, row.value, row.problem, row.warning)
            lines.append("| " + " | ".join(" ".join(cell.replace("|", "\\|").split()) for cell in cells) + " |")
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Return the table as CSV with a line of headings."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(FindingRow.model_fields)
        writer.writerows(tuple(row.model_dump().values()) for row in self.rows)
        return text.getvalue()

    def to_json(self) -> str:
        """Return everything as JSON, with the verdict as ``ok``; ``model_validate_json`` reads it back."""
        return json.dumps({"ok": self.ok, **self.model_dump(mode="json")}, indent=1) + "\n"


def write(verification: Verification, folder: Path) -> list[Path]:
    """Write ``<dataset>.verify.json``, ``.md`` and ``.csv``, and return their paths.

    Raises:
        UserError: the place cannot be written.
    """
    texts = {"json": verification.to_json(), "md": verification.to_markdown(), "csv": verification.to_csv()}
    paths = {folder / f"{verification.dataset}.verify.{suffix}": text for suffix, text in texts.items()}
    for path, text in paths.items():
        write_atomically(path, text.encode())
    return list(paths)
