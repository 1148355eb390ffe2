"""Counts with their nouns, and that all messages use them."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import benchmark
from benchmark.utils import words
from benchmark.utils.words import counted

PACKAGE = Path(benchmark.__file__).parent


def test_a_noun_follows_its_number() -> None:
    assert doctest.testmod(words).failed == 0
    assert [counted(number, "run") for number in (0, 1, 2, 1.0, "1", "0.5")] == [
        *("0 runs", "1 run", "2 runs", "1 run", "1 run", "0.5 runs"),
    ]


def test_no_message_leaves_the_number_open_or_has_a_rule_of_its_own() -> None:
    own_rule = re.compile(r"\w\(s\)|[\"']s[\"'] (\*|if) ")
    sources = [file for file in PACKAGE.rglob("*") if file.suffix in (".py", ".html")]
    found = [
        f"{file.name}: {match.group()}" for file in sources for match in own_rule.finditer(file.read_text("utf-8"))
    ]
    assert not found
