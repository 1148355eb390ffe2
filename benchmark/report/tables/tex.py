"""Writes text and numbers so that LaTeX prints them as they are."""

from __future__ import annotations

import unicodedata

CHARACTERS = {
    "[": "{[}", "*": "{*}",  # after a row's end these would be read as its arguments
    "\\": "\\textbackslash{}", "{": "\\{", "}": "\\}", "$": "\\$", "&": "\\&", "#": "\\#", "%": "\\%", "_": "\\_",
    "^": "\\textasciicircum{}", "~": "\\textasciitilde{}", "<": "\\textless{}", ">": "\\textgreater{}",
    "|": "\\textbar{}", "±": "$\\pm$", "×": "$\\times$", "·": "$\\cdot$", "↑": "$\\uparrow$",
    "↓": "$\\downarrow$", "→": "$\\rightarrow$", "≥": "$\\geq$", "≤": "$\\leq$", "²": "\\textsuperscript{2}",
    "–": "--", "—": "---", "†": "$\\dagger$", "‡": "$\\ddagger$", "Δ": "$\\Delta$", "−": "$-$", "✓": "$\\surd$",
}  # fmt: skip


def escape(text: str) -> str:
    """Escape text for LaTeX; what pdflatex cannot set in its default encoding is shown by code point."""
    return "".join(map(_character, unicodedata.normalize("NFC", " ".join(text.split()))))


def _character(character: str) -> str:
    if character in CHARACTERS:
        return CHARACTERS[character]
    # Accented Latin-1 letters (é, ü, ç) are the characters beyond ASCII that every LaTeX since 2018 sets unaided.
    accented = "À" <= character <= "ÿ" and unicodedata.normalize("NFD", character)[0].isascii()
    plain = character.isascii() and character.isprintable()
    return character if plain or accented else f"\\texttt{{U+{ord(character):04X}}}"


def number(text: str) -> str:
    """Return a printed number with a minus sign in place of the hyphen."""
    return text.replace("-", "\\ensuremath{-}")
