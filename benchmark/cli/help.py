"""Orders the verbs of ``--help`` and groups a verb's flags into panels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from typer.core import TyperCommand, TyperGroup

#: Verbs in the order in which a user needs them.
VERBS = (
    *("run", "status", "report", "data", "predict", "score", "diff", "stages", "export"),
    *("list", "explain", "profile", "bench"),
)
COLUMN = 30  # width of the flags, as click has it, so that the panels of a verb line up


class VerbGroup(TyperGroup):
    """The command line: its verbs stand in the order of ``VERBS``."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs."""
        return sorted(super().list_commands(ctx), key=lambda verb: VERBS.index(verb) if verb in VERBS else len(VERBS))


class PanelledCommand(TyperCommand):
    """A verb whose flags stand in titled panels."""

    panels: Mapping[str, Sequence[str]]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a panel; flags of no panel follow."""
        records = {parameter.name: parameter.get_help_record(ctx) for parameter in self.get_params(ctx)}
        rest = records.keys() - {name for names in self.panels.values() for name in names}
        for title, names in {**self.panels, "Other": [name for name in records if name in rest]}.items():
            if rows := [record for name in names if (record := records[name])]:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(COLUMN), text) for name, text in rows])


def panelled(panels: Mapping[str, Sequence[str]]) -> type[PanelledCommand]:
    """Return the class of a verb, for ``Typer.command``, from its parameters' names by panel."""
    return type("PanelledCommand", (PanelledCommand,), {"panels": panels})
