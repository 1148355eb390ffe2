"""What models and datasets may be called: names that are one part of a path and cannot lead out of a folder."""

from __future__ import annotations

import re

#: Letters, digits and underscores of any script, dots and hyphens; no separator, and neither of the two in front.
PLAIN = r"^\w[\w.-]*$"


def is_plain(name: str) -> bool:
    """Tell whether a name is one that records accept."""
    return re.fullmatch(PLAIN.strip("^$"), name) is not None
