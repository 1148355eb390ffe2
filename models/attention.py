"""EAL-ICNet's position attention and token-statistics attention, both linear in memory.

Tokens are the pixels of a feature map in row-major order, ``n = h·w``: 4096 at 1/8 of a 512x512 image, 16,384 at 1/8 of
1024x1024. There, one float32 matrix of n x n attention weights takes 1 GiB. Position attention is computed exactly,
forward and backward, without that matrix:

- on a CPU, in blocks of the matrix (:class:`_Blocks`). A block stays in the cache, while the plain form waits for the
  main memory;
- on CUDA, and in captured programs (``torch.export``, ``torch.compile``), by PyTorch's fused attention. A capture would
  unroll a loop over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

#: Queries and keys of a block. The values of few keys stay in the L2 cache. Many queries repay the rearrangement of
#: both matrices before a product. On AMD Zen 4 (1 MiB L2 cache a core, 32 MiB L3) 1024 to 4096 queries by 256 to 1024
#: keys are equally fast within a tenth at 4096 and 16,384 tokens.
QUERIES, KEYS = 2048, 512

#: From this number of tokens on, inference in bfloat16 also sums values in bfloat16 (in float32 within a product). On
#: AMD Zen 4 this reduces the time of the product to a third; with fewer tokens there is no gain.
HALF_TOKENS = 1024
#: Maps queries, keys and values to the result for every position.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def position_attention_plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute ``softmax(q·kᵀ)·v`` by its formula with the n x n matrix: the reference form, also for MACs.

    Args:
        q: queries ``(N, n, d)``.
        k: keys ``(N, n, d)``.
        v: values ``(N, n, c)``.

    Returns:
        ``(N, n, c)``; as in DANet (arXiv:1809.02983, equation 1) the scores are not scaled by ``1/√d``.
    """
    return torch.softmax(q @ k.mT, dim=-1) @ v


def position_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute :func:`position_attention_plain` without the n x n matrix, forward and backward."""
    if q.is_cuda or torch.compiler.is_compiling():
        return _fused(q, k, v)
    # At least float32: scores without the factor 1/√d lose too much in bfloat16, and the backward sums over blocks.
    dtype = torch.promote_types(q.dtype, torch.float32)
    if v.dtype == torch.bfloat16 and v.shape[1] >= HALF_TOKENS and not torch.is_grad_enabled():
        return _forward(q.to(dtype), k.to(dtype), v)[0].to(v.dtype)
    summed: Tensor = _Blocks.apply(q.to(dtype), k.to(dtype), v.to(dtype))
    return summed.to(q.dtype)


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # PyTorch's fused kernels need heads of one width, dense in memory; otherwise it silently takes the plain form.
    # Zeros appended to queries and keys change no score. (CUDA has no fused kernel for float64.)
    padding = (0, max(v.shape[-1] - q.shape[-1], 0))
    q, k, v = (t.contiguous()[:, None] for t in (F.pad(q, padding), F.pad(k, padding), v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


class _Blocks(torch.autograd.Function):
    """Position attention in blocks of queries and keys; the backward computes the weights of a block again.

    A row's softmax over several blocks follows FlashAttention (Dao et al., arXiv:2205.14135, algorithm 1): sums are
    relative to the largest score so far, and scaled down for a larger score.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out, log_sums = _forward(q, k, v)
        ctx.save_for_backward(q, k, v, out, log_sums)
        return out

    @staticmethod
    def backward(ctx: FunctionCtx, grad_out: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v, out, log_sums = ctx.saved_tensors  # type: ignore[attr-defined]  # torch sets it from C++
        grad_q, grad_k, grad_v = torch.zeros_like(q), torch.zeros_like(k), torch.zeros_like(v)
        # The softmax's backward, p·(dp − Σ p·dp), needs this sum over a row; it equals Σ out·grad_out.
        row_sums = (out * grad_out).sum(-1, keepdim=True)
        scores, weights = _buffer(k), _buffer(k)
        for queries in zip(q, grad_out, row_sums, log_sums, grad_q, k, v, grad_k, grad_v, strict=True):
            rows, columns = (t.split(QUERIES) for t in queries[:5]), [t.split(KEYS) for t in queries[5:]]
            for q_i, g_i, sums, logs, dq_i in zip(*rows, strict=True):
                for k_j, v_j, dk_j, dv_j in zip(*columns, strict=True):
                    s, p = (_part(buffer, q_i, k_j) for buffer in (scores, weights))
                    torch.mm(q_i, k_j.mT, out=p).sub_(logs).exp_()
                    # Transposed, because a network's keys and values are stored channel by channel.
                    dv_j.mT.addmm_(g_i.mT, p)
                    torch.mm(g_i, v_j.mT, out=s).sub_(sums).mul_(p)
                    dq_i.addmm_(s, k_j)
                    dk_j.mT.addmm_(q_i.mT, s)
        return grad_q, grad_k, grad_v


def _forward(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``softmax(q·kᵀ)·v``, with weights rounded to the number format of ``v``, and ``log Σ exp(q·kᵀ)``.

    Both have the number format of ``q``; the logarithms are ``(N, n, 1)``.
    """
    out, log_sums = torch.zeros_like(v, dtype=q.dtype), q.new_empty(*q.shape[:2], 1)
    scores = _buffer(k)
    for q_n, k_n, v_n, out_n, logs_n in zip(q, k, v, out, log_sums, strict=True):
        for q_i, out_i, logs in zip(*(t.split(QUERIES) for t in (q_n, out_n, logs_n)), strict=True):
            top, total = q_i.new_full((len(q_i), 1), -torch.inf), q_i.new_zeros(len(q_i), 1)
            for k_j, v_j in zip(k_n.split(KEYS), v_n.split(KEYS), strict=True):
                s = torch.mm(q_i, k_j.mT, out=_part(scores, q_i, k_j))
                before, top = top, torch.maximum(top, s.amax(-1, keepdim=True))
                scale = (before - top).exp_()
                p = s.sub_(top).exp_()
                total.mul_(scale).add_(p.sum(-1, keepdim=True))
                out_i.mul_(scale)
                if v.dtype == q.dtype:
                    torch.addmm(out_i, p, v_j, out=out_i)
                else:
                    out_i.add_(torch.mm(p.to(v.dtype), v_j))
            out_i.div_(total)
            torch.add(top, total.log_(), out=logs)
    return out, log_sums


def _buffer(k: Tensor) -> Tensor:
    n = k.shape[1]
    return k.new_empty(min(QUERIES, n) * min(KEYS, n))


def _part(buffer: Tensor, q: Tensor, k: Tensor) -> Tensor:
    """Return a dense matrix in a buffer, with a row per query and a column per key."""
    return buffer[: len(q) * len(k)].view(len(q), len(k))


class PositionAttention(nn.Module):
    """PAM: add to every pixel the similarity-weighted sum of all pixels, times a learned factor.

    ``out = γ·softmax(q·kᵀ)·v + x``, equations 1 and 2 of DANet (Fu et al., CVPR 2019, arXiv:1809.02983), in the form of
    TransAttUnet (Chen et al., arXiv:2107.05274): no ``1/√d``, queries and keys an eighth as wide as the map, γ starting
    at 0. With this start, the module is the identity, and q, k and v have no gradient.

    Args:
        channels: of the input and the output.
        reduction: how many times narrower queries and keys are.

    Attributes:
        attend: the function that computes the attention; set by :func:`attention_by`.
    """

    def __init__(self, channels: int, reduction: int = 8) -> None:
        super().__init__()
        self.attend: Attend = position_attention
        self.gamma = nn.Parameter(torch.zeros(1))
        self.query = nn.Conv2d(channels, channels // reduction, 1)
        self.key = nn.Conv2d(channels, channels // reduction, 1)
        self.value = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, h, w)`` to the same shape."""
        out = self.attend(*(layer(x).flatten(2).mT for layer in (self.query, self.key, self.value)))
        return self.gamma * out.mT.reshape(x.shape) + x


@contextmanager
def attention_by(network: nn.Module, attend: Attend) -> Iterator[None]:
    """Let every :class:`PositionAttention` in ``network`` use another function with the same result."""
    layers = [layer for layer in network.modules() if isinstance(layer, PositionAttention)]
    before = [layer.attend for layer in layers]
    try:
        for layer in layers:
            layer.attend = attend
        yield
    finally:
        for layer, kept in zip(layers, before, strict=True):
            layer.attend = kept


def plain_attention(network: nn.Module) -> AbstractContextManager[None]:
    """Let every :class:`PositionAttention` use its plain form, for MACs and comparisons."""
    return attention_by(network, position_attention_plain)


class TokenStatisticsAttention(nn.Module):
    """TSSA: scale every token by second moments over all tokens, at linear cost.

    Token Statistics Transformer (Wu et al., ICLR 2025, arXiv:2412.17810), without dropout. The squared projections,
    normalised over the tokens, average ``1/n``. At the initial temperature of 1, every head's membership is 1/8 within
    1 % for every image; it changes only after temperatures reach hundreds.

    Args:
        channels: of the input and the output.
        heads: groups of channels that share a token's membership.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.heads = heads
        self.temperature = nn.Parameter(torch.ones(heads, 1))
        self.qkv = nn.Linear(channels, channels, bias=False)
        self.out = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(N, channels, h, w)`` to the same shape."""
        w = self.qkv(x.flatten(2).mT).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (N, heads, n, channels / heads)
        energy = F.normalize(w, dim=-2, eps=1e-12).square().sum(-1)
        membership = torch.softmax(energy * self.temperature, dim=1)  # (N, heads, n)
        share = membership / (membership.sum(-1, keepdim=True) + 1e-8)
        moments = share.unsqueeze(-2) @ w.square()  # (N, heads, 1, channels / heads)
        out = -w * membership.unsqueeze(-1) / (1 + moments)
        merged: Tensor = self.out(out.transpose(1, 2).flatten(2))
        return merged.mT.reshape(x.shape)
