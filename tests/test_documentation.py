"""Pages: every command, flag, link and file that they show exists, and the presets are as they say."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main
from markdown_it import MarkdownIt
from markdown_it.token import Token

from benchmark.cli import main
from benchmark.config.protocol import load_protocol

ROOT = Path(__file__).parents[1]
PAGES = [
    *ROOT.glob("*.md"),
    *(path for part in ("benchmark", "models", "baselines", "tests") for path in (ROOT / part).rglob("*.md")),
    ROOT / "results/README.md",
]
BENCHMARK_PAGES = [path for path in PAGES if path.is_relative_to(ROOT / "benchmark")]
COMMAND = re.compile(r"python -m benchmark ([^`\n&]*)")
REPOSITORY_FILE = re.compile(r"((?:benchmark|models|baselines|tests)/[\w./-]+)(?::\w+)?")

pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def commands(page: Path) -> list[list[str]]:
    """Return the words after each ``python -m benchmark`` of a page."""
    return [shlex.split(line, comments=True) for line in COMMAND.findall(page.read_text("utf-8"))]


def tokens(page: Path) -> list[Token]:
    """Return the blocks of a page, and the links, pictures and code spans inside them."""
    blocks = MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))
    return [token for block in blocks for token in (block, *(block.children or ()))]


def anchors(page: Path) -> set[str]:
    """Return the fragments by which GitHub links to the headings of a page."""
    parsed = tokens(page)
    titles = [parsed[index + 1].content for index, token in enumerate(parsed) if token.type == "heading_open"]
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def dead_links(page: Path) -> list[str]:
    """Return the relative links of a page whose file or heading does not exist."""
    targets = [str(token.attrs.get("href") or token.attrs.get("src") or "") for token in tokens(page)]
    dead = []
    for target in targets:
        path, _, anchor = target.partition("#")
        linked = (page.parent / path) if path else page
        if not target or target.startswith(("https:", "http:")):
            continue
        if not linked.exists() or (anchor and anchor not in anchors(linked)):
            dead.append(target)
    return dead


def test_readme_shows_the_commands_of_continuous_integration() -> None:
    readme, ci = (ROOT / "README.md").read_text("utf-8"), (ROOT / ".ci/run").read_text("utf-8").splitlines()
    for line in (
        "pip install -e . && python -m benchmark run --models all --datasets omc,miic --protocol quick",
        "pip install -e '.[test]' && pytest",
    ):
        assert line in readme
        assert f"{line} || exit 1" in ci  # `set -e` alone goes on where the first command fails


def test_links_of_committed_tables_lead_somewhere() -> None:
    tables = [*(ROOT / "results").glob("reference-*/**/*.md")]
    assert tables
    assert [link for table in tables for link in dead_links(table)] == []


@pages
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert dead_links(page) == []


def test_dead_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# A `b` title, twice\n")
    (tmp_path / "page.md").write_text(
        "# Top\n[1](other.md#a-b-title-twice) [2](#top) [3](https://example.org)\n"
        "![4](no.png) [5](other.md#no) [6](#no)\n\n| a |\n|---|\n| [7](gone.md) |\n"
    )
    assert dead_links(tmp_path / "page.md") == ["no.png", "other.md#no", "#no", "gone.md"]


@pages
def test_commands_and_flags_exist(page: Path) -> None:
    root = typer.main.get_command(main.app)
    for words in commands(page):
        command, rest = root, words
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts + parameter.secondary_opts}
        used = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert command is not root or rest == ["--help"], words
        assert used <= {*known, "--help"}, f"{words}: {used - known}"


@pages
def test_named_files_exist(page: Path) -> None:
    spans = [token.content for token in tokens(page) if token.type == "code_inline"]
    files = [match[1] for match in map(REPOSITORY_FILE.fullmatch, spans) if match]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_every_verb_has_a_page() -> None:
    verbs = {*typer.main.get_command(main.app).commands}  # type: ignore[attr-defined]
    assert verbs - {path.stem for path in (ROOT / "benchmark/cli").glob("*.md")} == {
        "explain",
        "unpack",
    }  # on the pages of `list` and `pack`


def test_index_lists_every_page() -> None:
    index = (ROOT / "benchmark/README.md").read_text("utf-8")
    pages = {str(path.relative_to(ROOT / "benchmark").as_posix()) for path in BENCHMARK_PAGES}
    assert {page for page in pages if f"]({page})" not in index} == {"README.md"}


@pytest.mark.parametrize("page", BENCHMARK_PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_open_with_a_command(page: Path) -> None:
    first = next(token for token in tokens(page) if token.type in ("fence", "paragraph_open"))
    assert first.type == "fence"
    assert "python -m benchmark " in first.content or "import benchmark" in first.content


def test_table_of_presets_in_the_manual_has_their_training() -> None:
    """Each cell has the preset's optimiser, learning rate, batch and length, and the networks' exceptions."""
    lines = (ROOT / "benchmark/config/protocol.md").read_text("utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    names = [name.strip("`").removesuffix("` (default)") for name in rows[0][1:]]
    (cells,) = [row[1:] for row in rows if row[0] == "training"]
    assert names == ["paper", "strict", "small", "quick", "open"]
    for name, cell in zip(names, cells, strict=True):
        training = load_protocol(name).training
        length = f"{training.steps} steps" if training.steps else f"{training.epochs} epochs"
        rate = f"{training.lr:.0e}".replace("e-0", "e-")
        assert re.search(rf"^{training.optimizer} {rate}\b.*\bbatch {training.batch}\b.*\b{length}\b", cell, re.I)
        rates = {model: f"{lr:.0e}".replace("e-0", "e-") for model, lr in training.lr_by_model.items()}
        for model, exception in [*rates.items(), *training.steps_by_model.items()]:
            assert re.search(rf"\([^)]*\b{model}\b[^();]* {exception}\b", cell, re.I), (name, model)
