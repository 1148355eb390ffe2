"""A benchmark harness for integrated-circuit image segmentation."""

__version__ = "0.1.0"

# Raised by hand when a change of the harness alters a run's numbers, so that older records become stale. Reasons for 3:
# - a net that no component of the least area hits is found by the largest smaller component that hits it;
# - tiles, and training crops, without enough labelled pixels are not used (split.min_labelled);
# - masks with transparent pixels are no longer read by the colours below them;
# - predicted vias closer than a radius are merged as true ones are;
# - a GPU without bfloat16 (before Ampere) computes mixed precision in float32, as a CPU without it does;
# - COCO's polygons are drawn by pycocotools, and SVG files from elsewhere than HY5SYN by SVG's rule;
# - images without a counted pixel have no value in any metric, nor have rates over nets or vias without one;
# - TIFF files that store luma and chroma uncompressed become RGB;
# - paths without a length in a GDS or OASIS layout are drawn as the squares or discs that they are.
BEHAVIOUR = 3
