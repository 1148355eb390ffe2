"""Finds the changes of a split's settings that help, by trying each before it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

from benchmark.config.protocol import Split
from benchmark.utils.errors import UserError

if TYPE_CHECKING:
    from benchmark.data.splits import Division

FREE: Sequence[tuple[str, Any, str]] = (
    ("counts", None, "divides what there is by split.validation and split.test"),
    ("near_duplicates", "together", "keeps images that look alike in one part"),
    ("unit", "group", "keeps all tiles of a frame in one part"),
    ("unit", "block", "cuts stripes with gaps between them from each frame"),
)
COSTLY: Sequence[tuple[str, Any, str]] = (  # the test is easier afterwards, or less is known of it
    ("near_duplicates", "apart", "lets look-alikes part"),
    ("min_labelled", 0.01, "uses tiles with fewer labelled pixels"),
    ("unit", "image", "lets tiles of one frame part"),
)
MOST_TOLD = 3


def ways(
    cut: Callable[[Split], Division],
    settings: Split,
    fits: Callable[[Division], bool] = lambda division: True,
    *,
    partial: bool = False,
    costly: bool = True,
) -> str:
    """Say which changes of the settings give a division that fits, the fewest that do; empty for none.

    Changes that cost nothing come first, even where one that costs something would do with fewer.

    Args:
        cut: divides under changed settings, or raises UserError.
        settings: those at hand.
        fits: what is asked of a division beside that it can be made.
        partial: whether tiles overlap, so that no blocks can be cut.
        costly: whether changes may be told that make the test easier.
    """

    def helps(fields: Mapping[str, Any]) -> bool:
        same = any(getattr(settings, name) == value for name, value in fields.items())
        if same or (partial and fields.get("unit") == "block"):
            return False
        if fields.get("min_labelled", 0.0) > settings.min_labelled:
            return False
        try:
            return fits(cut(settings.model_copy(update=fields)))
        except UserError:
            return False

    told: list[str] = []
    for changes in (FREE, [*FREE, *COSTLY] if costly else ()):
        for count in (1, 2, 3):
            found = []
            for chosen in combinations(changes, count):
                fields = {name: value for name, value, _ in chosen}
                if len(fields) == count and helps(fields):
                    flags = " ".join(f"--set split.{name}={str(value).lower()}" for name, value in fields.items())
                    found.append(f"{flags}, which {' and '.join(effect for _, _, effect in chosen)}")
            if found:
                told += found
                break
    return "; or ".join(list(dict.fromkeys(told))[:MOST_TOLD])
