"""Counts by how many components and holes two masks differ.

These are the errors of the Betti numbers 0 and 1: Hu et al., NeurIPS 2019, arXiv:1906.05404, there on patches.
"""

from __future__ import annotations

from benchmark.metrics.components import Overlap


def betti_counts(overlap: Overlap) -> dict[str, int]:
    """Return ``betti0_error, betti1_error``: by how many components and by how many holes the masks differ.

    Args:
        overlap: the components of both masks; ignored pixels are background in both.
    """
    truth, prediction = overlap.truth, overlap.prediction
    return {"betti0_error": abs(prediction.count - truth.count), "betti1_error": abs(prediction.holes - truth.holes)}
