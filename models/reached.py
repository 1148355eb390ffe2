"""Finds the parameters that a network's output depends on."""

from __future__ import annotations

from torch import Tensor


def reached_parameters(output: Tensor) -> set[Tensor]:
    """Return the leaves that autograd's graph leads to from an output that was computed with gradients."""
    pending, seen, reached = [output.grad_fn], set(), set()
    while pending:
        node = pending.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):  # the node that accumulates into a leaf
            reached.add(node.variable)
        pending += [following for following, _ in node.next_functions]
    return reached
