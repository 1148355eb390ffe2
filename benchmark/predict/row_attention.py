"""Computes EAL-ICNet's position attention for inference on a CPU, with oneDNN's matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

from models.attention import position_attention

#: Most queries at a time, and most weights. With 512 to 2048 queries of 4096 or 16,384 tokens, times on AMD Zen 5 were
#: within a tenth of each other; more would only take memory.
QUERIES, WEIGHTS = 512, 2**23


def row_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute ``softmax(q·kᵀ)·v`` for some rows of weights at a time, without gradients.

    A row is whole, so that one pass computes its softmax, where training's blocks take several. In the products, torch
    leaves ``mm`` and ``addmm`` to MKL, which reaches half of oneDNN's speed on AMD Zen 5. Scores are computed in
    float32, weights have the number format of the values. Compilers and float64 take the network's own form.

    Args:
        q: queries ``(N, n, d)``.
        k: keys ``(N, n, d)``.
        v: values ``(N, n, c)``.

    Returns:
        ``(N, n, c)``, in memory linear in n.
    """
    if torch.compiler.is_compiling() or v.dtype == torch.float64:
        return position_attention(q, k, v)
    out = torch.empty_like(v)
    queries = max(min(QUERIES, WEIGHTS // k.shape[1]), 1)
    for q_n, k_n, v_n, out_n in zip(q.float(), k.float(), v, out, strict=True):
        # oneDNN takes one matrix as the weights of a layer, with a row for each of its outputs.
        keys, values = k_n.contiguous(), v_n.mT.contiguous()
        for q_i, out_i in zip(q_n.split(queries), out_n.split(queries), strict=True):
            scores = _product(q_i.contiguous(), keys)
            weights = torch.softmax(scores, dim=-1, out=scores)
            out_i.copy_(_product(weights.to(v.dtype), values))
    return out


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Return ``left·rightᵀ``."""
    product: Tensor = torch.ops.mkldnn._linear_pointwise.default(left, right, None, "none", [], "")
    return product
