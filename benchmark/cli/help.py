"""Orders the verbs of ``--help``, groups flags into panels, and knows flags' other names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from typer.core import TyperCommand, TyperGroup

#: Verbs in the order in which a user needs them.
VERBS = (
    *("run", "status", "report", "data", "predict", "score", "diff", "stages", "export"),
    *("list", "explain", "profile", "bench", "pack", "unpack"),
)
#: Other names that a flag answers to, which no help shows: those of earlier releases, and the singular or plural.
ALIASES = {
    **{"--model": "--models", "--dataset": "--datasets", "--size": "--sizes"},
    **{"--devices": "--device", "--dtypes": "--dtype", "--form": "--execution", "--output": "--out"},
}
COLUMN = 30  # width of the flags, as click has it, so that the panels of a verb line up


class VerbGroup(TyperGroup):
    """The command line: its verbs stand in the order of ``VERBS``."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of all verbs."""
        return sorted(super().list_commands(ctx), key=lambda verb: VERBS.index(verb) if verb in VERBS else len(VERBS))


class Verb(TyperCommand):
    """A verb, whose flags answer to ``ALIASES`` and may stand in titled panels."""

    panels: ClassVar[Mapping[str, Sequence[str]]] = {}

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the words after the verb."""
        own = {name for parameter in self.params for name in parameter.opts}
        words = []
        for word in args:
            flag, equals, value = word.partition("=")
            known = flag not in own and ALIASES.get(flag) in own
            words.append(f"{ALIASES[flag]}{equals}{value}" if known else word)
        return super().parse_args(ctx, words)

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write one section a panel, without the off forms of flags; flags of no panel follow."""
        if not self.panels:
            super().format_options(ctx, formatter)
            return
        records = {parameter.name: parameter.get_help_record(ctx) for parameter in self.get_params(ctx)}
        rest = records.keys() - {name for names in self.panels.values() for name in names}
        for title, names in {**self.panels, "Other": [name for name in records if name in rest]}.items():
            if rows := [record for name in names if (record := records[name])]:
                with formatter.section(title):
                    formatter.write_dl(
                        [
                            (flags.partition(" / --no-")[0].ljust(COLUMN), text.partition("  [default: no-")[0])
                            for flags, text in rows
                        ]
                    )


def panelled(panels: Mapping[str, Sequence[str]]) -> type[Verb]:
    """Return the class of a verb, for ``Typer.command``, from its parameters' names by panel."""
    return type("PanelledVerb", (Verb,), {"panels": panels})
