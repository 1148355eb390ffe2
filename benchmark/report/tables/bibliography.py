"""Cites the papers of the networks, for BibTeX and without it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from benchmark.config import registry

FILE = Path(__file__).with_name("references.bib")


@cache
def entries() -> dict[str, str]:
    """Return all entries by key, each as it stands in the file."""
    matches = re.finditer(r"^@\w+\{([^,]+),\n.*?^\}\n", FILE.read_text("utf-8"), re.M | re.S)
    return {match[1]: match[0] for match in matches}


def keys(models: Iterable[str]) -> list[str]:
    """Return the keys of the networks' papers and of those that they build on, in the order of the models."""
    known = registry.models()
    networks = (known[name] for name in models if name in known)
    return list(dict.fromkeys(key for network in networks for key in (*network.built_on, *network.cite)))


def bibtex(used: Iterable[str]) -> str:
    """Return a ``.bib`` file of these entries."""
    return "\n".join(entries()[key] for key in used)


def thebibliography(used: Iterable[str]) -> str:
    """Return the entries as LaTeX's own list of references, which needs no BibTeX run."""
    items = "".join(f"\\bibitem{{{key}}} {_item(entries()[key])}\n" for key in used)
    return f"\\begin{{thebibliography}}{{99}}\n{items}\\end{{thebibliography}}\n"


def _item(entry: str) -> str:
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},?$", entry, re.M))
    people = [" ".join(reversed(name.split(", "))) for name in fields["author"].split(" and ")]
    authors = ", ".join(people).replace(", others", " et al.")
    issue = f" {fields['volume']}" if "volume" in fields else ""
    issue += f"({fields['number']})" if "number" in fields else ""
    issue += f":{fields['pages']}" if "pages" in fields else ""
    venue = fields.get("journal") or fields["booktitle"]
    links = [f"doi:{fields['doi']}".replace("_", "\\_")] if "doi" in fields else []
    links += [f"arXiv:{fields['eprint']}"] if "eprint" in fields else []
    return f"{authors.rstrip('.')}. {fields['title']}. \\emph{{{venue}}}{issue}, {fields['year']}. {', '.join(links)}."
