"""The two attention branches of EAL-ICNet, position attention and token-statistics attention, linear in memory.

Tokens are the pixels of a feature map in row-major order, ``n = h·w``: 4096 at 1/8 of a 512x512 image, 16,384 at 1/8 of
1024x1024, where one float32 matrix of n x n attention weights takes 1 GiB. Position attention is computed exactly
without ever holding that matrix, forward and backward:

- in blocks of the matrix on a CPU (:class:`_Blocks`), each of which stays in the cache, where the plain form is held up
  by the main memory;
- by PyTorch's fused attention on CUDA, and wherever a program is captured (``torch.export``, ``torch.compile``), which
  would unroll a loop over rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional as F

#: Queries and keys of a block. Few keys, so that their values stay in the L2 cache; many queries, since a product first
#: rearranges its two matrices, which pays where many rows use them. On AMD Zen 4 (1 MiB L2 cache a core, 32 MiB L3)
#: 1024 to 4096 queries by 256 to 1024 keys are equally fast within a tenth at 4096 and 16,384 tokens.
QUERIES, KEYS = 2048, 512

#: From so many tokens on, inference in bfloat16 also sums values in it (in float32 within a product): on AMD Zen 4 that
#: product then takes a third of its time, which at fewer tokens is nothing.
HALF_TOKENS = 1024
#: Queries, keys and values to what every position gets.
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]


def position_attention_plain(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute ``softmax(q·kᵀ)·v`` by its formula, holding the n x n matrix: the yardstick, and what MACs count.

    Args:
        q: queries ``(N, n, d)``.
        k: keys ``(N, n, d)``.
        v: values ``(N, n, c)``.

    Returns:
        ``(N, n, c)``; as in DANet (arXiv:1809.02983, equation 1) the scores are not scaled by ``1/√d``.
    """
    return torch.softmax(q @ k.mT, dim=-1) @ v


def position_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute :func:`position_attention_plain` without holding the n x n matrix, forward or backward."""
    if q.is_cuda or torch.compiler.is_compiling():
        return _fused(q, k, v)
    # In float32 at least: scores that no 1/√d holds down lose too much in bfloat16, and the backward sums over blocks.
    dtype = torch.promote_types(q.dtype, torch.float32)
    if v.dtype == torch.bfloat16 and v.shape[1] >= HALF_TOKENS and not torch.is_grad_enabled():
        return _forward(q.to(dtype), k.to(dtype), v)[0].to(v.dtype)
    summed: Tensor = _Blocks.apply(q.to(dtype), k.to(dtype), v.to(dtype))
    return summed.to(q.dtype)


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    # PyTorch's fused kernels want heads of one width that are dense in memory, else it silently takes the plain form.
    # Zeros appended to queries and keys leave every score as it is. (CUDA has no fused kernel for float64 at all.)
    padding = (0, max(v.shape[-1] - q.shape[-1], 0))
    q, k, v = (t.contiguous()[:, None] for t in (F.pad(q, padding), F.pad(k, padding), v))
    return F.scaled_dot_product_attention(q, k, v, scale=1.0).squeeze(1)


class _Blocks(torch.autograd.Function):
    """Position attention in blocks of queries and keys; the backward computes a block's weights again.

    The softmax over a row that comes in pieces is that of FlashAttention (Dao et al., arXiv:2205.14135, algorithm 1):
    sums are kept relative to the largest score so far, and scaled down when a larger one comes.
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
                    # Transposed, since a network's keys and values lie channel by channel in memory.
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
    """Return a dense matrix, a row per query and a column per key, within a buffer."""
    return buffer[: len(q) * len(k)].view(len(q), len(k))


class PositionAttention(nn.Module):
    """PAM: add to every pixel what all pixels hold, weighted by similarity, times a learned factor.

    ``out = γ·softmax(q·kᵀ)·v + x``, equations 1 and 2 of DANet (Fu et al., CVPR 2019, arXiv:1809.02983), in the form of
    TransAttUnet (Chen et al., arXiv:2107.05274): no ``1/√d``, queries and keys an eighth as wide as the map, γ starting
    at 0. At that start the module is the identity and q, k and v have no gradient.

    Args:
        channels: of the input and the output.
        reduction: how many times narrower queries and keys are.

    Attributes:
        attend: what computes the attention; set by :func:`attention_by`.
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
    """Let every :class:`PositionAttention` within ``network`` compute by a function of the same result."""
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
    """Let every :class:`PositionAttention` run its plain form, for counting MACs and comparing."""
    return attention_by(network, position_attention_plain)


class TokenStatisticsAttention(nn.Module):
    """TSSA: scale every token by second moments taken over all tokens, at a cost linear in their number.

    Token Statistics Transformer (Wu et al., ICLR 2025, arXiv:2412.17810), without dropout. The squared projections,
    normalised over the tokens, average ``1/n``: at the initial temperature of 1 every head's membership is 1/8 within
    1 % whatever the image, and moves only once temperatures reach hundreds.

    Args:
        channels: of the input and the output.
        heads: groups of channels among which a token's membership is shared out.
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
