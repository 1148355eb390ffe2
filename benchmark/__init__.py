"""A benchmark harness for integrated-circuit image segmentation.

Example:
    >>> import benchmark
    >>> study = benchmark.run(models="unet,eal_icnet", datasets="mychip", protocol="quick")  # doctest: +SKIP
    >>> study.table("accuracy")                                                              # doctest: +SKIP
    >>> mask = study.network("unet").predict("scans/die.tif")                                # doctest: +SKIP
    >>> benchmark.score("truth/die.png", mask)["net_error_rate"]                             # doctest: +SKIP
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmark.api.calls import load, network, profile, run
    from benchmark.api.score_masks import score
    from benchmark.utils.errors import UserError

__all__ = ["UserError", "load", "network", "profile", "run", "score"]

__version__ = "0.1.0"

# Raised by hand when a change of the harness alters a run's numbers, so that older records become stale. Reasons for 3:
# - a net that no component of the least area hits is found by the largest smaller component that hits it;
# - tiles, training crops and validation windows without enough labelled pixels are not used (split.min_labelled);
# - masks with transparent pixels are read only where their colours and transparency agree;
# - predicted vias closer than a radius are merged, as true vias are;
# - a GPU without bfloat16 (before Ampere) computes mixed precision in float32, as such a CPU does;
# - COCO's polygons are drawn by pycocotools, and SVG files that are not HY5SYN's by SVG's rule;
# - images without a counted pixel have no value in any metric, and images without nets or vias none in their rates;
# - TIFF files that store luma and chroma uncompressed become RGB;
# - paths of length zero in a GDS or OASIS layout are drawn as squares or discs.
BEHAVIOUR = 3


def __getattr__(name: str) -> object:
    """Import the functions above when they are asked for, since they import torch and pandas."""
    if name in ("load", "network", "profile", "run"):
        from benchmark.api import calls

        return getattr(calls, name)
    if name == "score":
        from benchmark.api.score_masks import score

        return score
    if name == "UserError":
        from benchmark.utils.errors import UserError

        return UserError
    raise AttributeError(f"module 'benchmark' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
