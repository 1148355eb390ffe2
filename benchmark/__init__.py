"""A benchmark harness for integrated-circuit image segmentation."""

__version__ = "0.1.0"
