"""Finds changes of a split's settings that help, by trying each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any, TypeVar

from benchmark.config.protocol import Split
from benchmark.utils.errors import UserError

Divided = TypeVar("Divided")

FREE: Sequence[tuple[str, Any, str]] = (
    ("counts", None, "divides what there is by split.validation and split.test"),
    ("near_duplicates", "together", "keeps images that look alike in one part"),
    ("unit", "group", "keeps all tiles of a frame in one part"),
    ("unit", "block", "cuts stripes with gaps between them from each frame"),
)
COSTLY: Sequence[tuple[str, Any, str]] = (  # these make the test easier, or use tiles with fewer labels
    ("near_duplicates", "apart", "lets look-alikes part"),
    ("min_labelled", 0.01, "uses tiles with fewer labelled pixels"),
    ("unit", "image", "lets tiles of one frame part"),
)
MOST_NAMED = 3


def ways(
    cut: Callable[[Split], Divided],
    settings: Split,
    fits: Callable[[Divided], bool] = lambda divided: True,
    *,
    partial: bool = False,
    costly: bool = True,
) -> str:
    """Say which changes of the settings, as few as possible, give a division that fits; empty for none.

    Free changes come first, even if fewer costly changes would do.

    Args:
        cut: divides under changed settings, or raises UserError.
        settings: the present settings.
        fits: another condition on what ``cut`` returns.
        partial: whether tiles overlap, so that no blocks can be cut.
        costly: whether changes that make the test easier are tried too.
    """

    def helps(fields: Mapping[str, Any]) -> bool:
        same = any(getattr(settings, name) == value for name, value in fields.items())
        no_blocks = (partial or settings.folds) and fields.get("unit") == "block"
        if same or no_blocks or fields.get("min_labelled", 0.0) > settings.min_labelled:
            return False
        try:
            return fits(cut(settings.model_copy(update=fields)))
        except UserError:
            return False

    fewer = range((settings.folds or 0) - 1, 1, -1) if costly else ()
    folds = next((count for count in fewer if helps({"folds": count})), None)
    without = "makes fewer folds" if folds else "tests one part of the images alone"
    advice: list[str] = []
    for changes in (FREE, [("folds", folds, without), *FREE, *COSTLY] if costly else ()):
        for count in (1, 2, 3):
            helping = []
            for chosen in combinations(changes, count):
                fields = {name: value for name, value, _ in chosen}
                if len(fields) == count and helps(fields):
                    flags = " ".join(f"--set split.{name}={str(value).lower()}" for name, value in fields.items())
                    helping.append(f"{flags}, which {' and '.join(effect for _, _, effect in chosen)}")
            if helping:
                advice += helping
                break
    return "; or ".join(list(dict.fromkeys(advice))[:MOST_NAMED])
