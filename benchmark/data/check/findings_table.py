"""Shows the findings about a dataset's folder as text, Markdown, CSV or JSON."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.table import Table
from rich.text import Text

from benchmark.utils.files import write_atomically
from benchmark.utils.words import counted


@dataclass(frozen=True)
class FindingRow:
    """One line of the table."""

    name: str  # the property that was checked
    value: str  # its value in the folder
    problem: str = ""  # why a study's numbers would be wrong; empty if they would be right
    warning: str = ""  # a remark that changes no number


class Verification(BaseModel):
    """The result of the check of a dataset's folder."""

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
        found = f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}"
        return f"{self.dataset} under protocol {self.protocol}: {found}"

    def to_table(self) -> Table:
        """Return the table for a terminal, problems in red and warnings in yellow."""
        table = Table(title=self._summary, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for heading in ("what", "found", "problem or warning"):
            table.add_column(heading, overflow="fold")
        for row in self.rows:
            remark = Text(row.problem, "red")
            remark.append("\n" if row.problem and row.warning else "").append(row.warning, "yellow")
            table.add_row(Text(row.name), Text(row.value), remark)
        return table

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        lines = [f"# {self._summary}", "", "| what | found | problem | warning |", "|---|---|---|---|"]
        rows = ([" ".join(cell.replace("|", "\\|").split()) for cell in astuple(row)] for row in self.rows)
        lines += [f"| {' | '.join(cells)} |" for cells in rows]
        return "\n".join(lines) + "\n"

    def to_csv(self) -> str:
        """Return the table as CSV with a line of headings."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(field.name for field in fields(FindingRow))
        writer.writerows(map(astuple, self.rows))
        return text.getvalue()

    def to_json(self) -> str:
        """Return all fields and ``ok`` as JSON; ``model_validate_json`` reads it back."""
        return json.dumps({"ok": self.ok, **self.model_dump(mode="json")}, indent=1) + "\n"


def write(verification: Verification, folder: Path) -> list[Path]:
    """Write ``<dataset>.verify.json``, ``.md`` and ``.csv``, and return their paths.

    Raises:
        UserError: the folder cannot be written.
    """
    texts = {"json": verification.to_json(), "md": verification.to_markdown(), "csv": verification.to_csv()}
    paths = {folder / f"{verification.dataset}.verify.{suffix}": text for suffix, text in texts.items()}
    for path, text in paths.items():
        write_atomically(path, text.encode())
    return list(paths)
