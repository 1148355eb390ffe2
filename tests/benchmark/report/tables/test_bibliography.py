from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.config import registry, smp_names
from benchmark.report.tables import bibliography


def test_every_network_with_a_paper_is_cited_and_every_entry_is_used() -> None:
    used = bibliography.keys([*registry.BUILTIN, *(f"smp-{name}-resnet18" for name in smp_names.ARCHITECTURES)])

    assert set(used) == set(bibliography.entries())
    uncited = [entry.name for entry in registry.BUILTIN.values() if not entry.cite]
    assert {name.partition(".")[0] for name in uncited} == {"eal_icnet"}  # the method under test has no paper here


@pytest.mark.parametrize("name", registry.select("lightweight,ic"), ids=lambda entry: entry.name)
def test_entries_agree_with_what_the_registry_says_of_the_paper(name: registry.ModelEntry) -> None:
    entries = [bibliography.entries()[key] for key in name.cite]

    links = re.findall(r"(?:arXiv:|doi:)([\w./-]+\d)", name.paper)
    assert links
    for link in links:
        assert any(f"{{{link}}}" in entry for entry in entries), link
    for part in name.paper.split(";"):
        author = re.match(r"\s*(\w+) et al\., .*?(\d{4})", part)
        if author:
            assert any(f"author = {{{author[1]}," in entry and f"year = {{{author[2]}}}" in entry for entry in entries)


def test_entries_of_chosen_networks_come_in_their_order_and_once() -> None:
    assert bibliography.keys(["eal_icnet", "irdpnet", "unetpp", "unetpp.b7", "someone's"]) == [
        "li2019dabnet", "mazhar2024irdpnet", "zhou2018unetpp", "cheng2025eunetpp",
    ]  # fmt: skip


def test_latex_s_own_list_reads_like_references() -> None:
    text = bibliography.thebibliography(["wang2019esnet", "wang2021hrnet", "xu2023letnet"])

    assert r"\bibitem{wang2019esnet} Yu Wang, Quan Zhou, Jian Xiong, Xiaofu Wu, Xin Jin. {ESNet}: An" in text
    assert r"doi:10.1007/978-3-030-31723-2\_4, arXiv:1906.09826." in text
    assert "Tianheng Cheng et al. Deep" in text
    assert r"\emph{IEEE Transactions on Intelligent Transportation Systems} 24(12):15897--15906, 2023." in text


@pytest.mark.skipif(shutil.which("bibtex") is None, reason="needs bibtex, which is not installed here")
def test_bibtex_reads_the_file_without_a_warning(tmp_path: Path) -> None:
    (tmp_path / "references.bib").write_text(bibliography.bibtex(bibliography.entries()), "utf-8")
    (tmp_path / "a.aux").write_text("\\citation{*}\n\\bibstyle{plain}\n\\bibdata{references}\n")

    done = subprocess.run(["bibtex", "a"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)

    assert done.returncode == 0, done.stdout
    warnings = [line for line in done.stdout.splitlines() if line.startswith("Warning")]
    # Plain BibTeX misses the pages of electronic articles; anything else is a mistake of ours.
    assert [line for line in warnings if "empty pages" not in line] == []
    assert (tmp_path / "a.bbl").read_text().count("\\bibitem") == len(bibliography.entries())
