"""What the READMEs show exists: commands, flags, links, and the lines that continuous integration runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from benchmark import cli

ROOT = Path(__file__).parents[2]
READMES = [
    ROOT / "README.md",
    *(file for part in ("benchmark", "models", "baselines") for file in (ROOT / part).rglob("README.md")),
    ROOT / "results" / "README.md",
]


def readme_commands() -> list[list[str]]:
    """Return the words after ``python -m benchmark`` wherever a README shows it."""
    texts = [file.read_text("utf-8") for file in READMES]
    found = [line for text in texts for line in re.findall(r"python -m benchmark ([^`\n&]*)", text)]
    return [shlex.split(line) for line in found]


def test_the_readme_s_two_lines_are_what_ci_runs() -> None:
    readme, ci = (ROOT / "README.md").read_text("utf-8"), (ROOT / ".ci/run").read_text("utf-8").splitlines()
    for line in (
        "pip install -e . && python -m benchmark run --models all --datasets omc,miic --protocol quick",
        "pip install -e '.[test]' && pytest",
    ):
        assert line in readme
        assert line in ci


def test_every_link_between_the_readmes_leads_somewhere() -> None:
    for file in (*READMES, ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"\]\(([^)]+)\)", file.read_text("utf-8")):
            path, _, anchor = target.partition("#")
            if path.startswith("http"):
                continue
            found = file.parent / path if path else file
            assert found.exists(), f"{file}: {target}"
            if anchor:
                titles = re.findall(r"(?m)^#+ (.*)$", found.read_text("utf-8"))
                anchors = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
                assert anchor in anchors, f"{file}: {target}"


def test_every_flag_that_the_readme_shows_exists() -> None:
    import typer.main

    root = typer.main.get_command(cli.app)
    commands = readme_commands()
    assert len(commands) >= 5
    for words in commands:
        command, rest = root, words
        while rest and rest[0] in getattr(command, "commands", {}):
            command, rest = command.commands[rest[0]], rest[1:]  # type: ignore[attr-defined]
        known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
        used = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert used <= known, f"{words}: {used - known}"
