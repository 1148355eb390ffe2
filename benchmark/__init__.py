"""A benchmark harness for integrated-circuit image segmentation."""

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
