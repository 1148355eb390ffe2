"""Cites the papers of the networks, for BibTeX and without it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from benchmark.config.network_files import CITATION
from benchmark.config.registry import ModelEntry
from benchmark.report.tables.conventions import entry_of, users_networks

FIELD = re.compile(r"""^\s*(\w+)\s*=\s*[{"](.*)[}"]\s*,?\s*$""", re.M)
FILE = Path(__file__).with_name("references.bib")


@cache
def entries() -> dict[str, str]:
    """Return all entries by key, each as it stands in the file."""
    matches = re.finditer(r"^@\w+\{([^,]+),\n.*?^\}\n", FILE.read_text("utf-8"), re.M | re.S)
    return {match[1]: match[0] for match in matches}


def own_keys(network: ModelEntry) -> tuple[str, ...]:
    """Return the keys of a network's own papers."""
    citation = CITATION.match(network.citation)
    return (*network.cite, *((citation[1],) if citation else ()))


def keys(models: Iterable[str]) -> list[str]:
    """Return the keys of the networks' papers and of those that they build on, in the order of the models."""
    networks = [network for name in models if (network := entry_of(name))]
    return list(dict.fromkeys(key for network in networks for key in (*network.built_on, *own_keys(network))))


def _entry(key: str) -> str:
    """Return an entry of the file, or of a user's network."""
    own = {keys[0]: f"{network.citation}\n" for network in users_networks() if (keys := own_keys(network))}
    return entries().get(key) or own[key]


def bibtex(used: Iterable[str]) -> str:
    """Return a ``.bib`` file of these entries."""
    return "\n".join(_entry(key) for key in used)


def thebibliography(used: Iterable[str]) -> str:
    """Return the entries as LaTeX's own list of references, which needs no BibTeX run."""
    items = "".join(f"\\bibitem{{{key}}} {_item(_entry(key))}\n" for key in used)
    return f"\\begin{{thebibliography}}{{99}}\n{items}\\end{{thebibliography}}\n"


def _item(entry: str) -> str:
    fields = {name.lower(): text for name, text in FIELD.findall(entry)}
    people = [" ".join(reversed(name.split(", "))) for name in fields.get("author", "").split(" and ")]
    authors = ", ".join(people).replace(", others", " et al.")
    issue = f" {fields['volume']}" if "volume" in fields else ""
    issue += f"({fields['number']})" if "number" in fields else ""
    issue += f":{fields['pages']}" if "pages" in fields else ""
    venue = fields.get("journal") or fields.get("booktitle") or ""
    links = [f"doi:{fields['doi']}".replace("_", "\\_")] if "doi" in fields else []
    links += [f"arXiv:{fields['eprint']}"] if "eprint" in fields else []
    dated = ", ".join(filter(None, [f"\\emph{{{venue}}}{issue}" if venue else "", fields.get("year", "")]))
    return ". ".join(filter(None, [authors.rstrip("."), fields.get("title", ""), dated, ", ".join(links)])) + "."
