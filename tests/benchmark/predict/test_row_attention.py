"""Position attention by rows, for inference: the same numbers, without the n x n matrix, and only where it can run."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from benchmark.predict import row_attention as module
from benchmark.predict.fused_network import ready
from benchmark.predict.row_attention import QUERIES, row_attention
from models.attention import PositionAttention, plain_attention, position_attention, position_attention_plain
from tests.models.test_attention import LargestTensor

pytestmark = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="needs a torch with oneDNN")


def tokens(batch: int, n: int, *, d: int = 4, c: int = 24, last: bool = True) -> tuple[Tensor, ...]:
    """Queries, keys and values with scores to ±100, laid out as networks do with channels last, or first."""
    generator = torch.Generator().manual_seed(n)
    created = [torch.randn(batch, n, width, generator=generator) for width in (d, d, c)]
    created[1].mul_(100 / (created[0] @ created[1].mT).abs().max())
    return tuple(t if last else t.mT.contiguous().mT for t in created)


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize(("batch", "n"), [(1, 1), (3, 7), (1, QUERIES), (2, 2 * QUERIES + 50)])
def test_rows_equal_the_plain_form(batch: int, n: int, last: bool) -> None:
    inputs = tokens(batch, n, last=last)
    with torch.inference_mode():
        exact = position_attention_plain(*(t.double() for t in inputs))
        torch.testing.assert_close(row_attention(*inputs), exact.float(), atol=1e-4, rtol=1e-5)
        torch.testing.assert_close(row_attention(*(t.double() for t in inputs)), exact, atol=1e-12, rtol=1e-12)


def test_attention_matrix_is_never_allocated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WEIGHTS", 64 * 640)
    inputs = tokens(1, 640)
    with torch.inference_mode(), LargestTensor() as seen:
        result = row_attention(*inputs)
    assert seen.numel == 64 * 640
    torch.testing.assert_close(result, position_attention_plain(*inputs), atol=1e-4, rtol=1e-5)


def test_scores_of_bfloat16_are_computed_in_float32() -> None:
    halves = tuple(t.bfloat16() for t in tokens(2, 200))
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        result = row_attention(*halves)
    exact = position_attention_plain(*(t.double() for t in halves))
    assert result.dtype == torch.bfloat16
    # Weights and sums are rounded, by 2^-9 of their size; scores in bfloat16 would be off by up to 0.2.
    assert torch.linalg.norm(result.double() - exact) < 2**-8 * torch.linalg.norm(exact)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_ready_network_attends_by_rows_but_not_when_it_is_exported(dtype: str) -> None:
    torch.manual_seed(0)
    layer = PositionAttention(16).eval()
    nn.init.constant_(layer.gamma, 0.7)
    with torch.inference_mode():
        fast = ready(nn.Sequential(layer), (1, 16, 8, 8), dtype)  # type: ignore[arg-type]
        image = torch.randn(2, 16, 12, 20)
        difference = fast(image).float() - layer(image)
    assert difference.abs().max() < (1e-5 if dtype == "float32" else 0.05)
    assert [part.attend for part in fast.modules() if isinstance(part, PositionAttention)] == [row_attention]
    assert layer.attend is position_attention
    program = torch.export.export(fast.network, (torch.rand(1, 16, 8, 8),), strict=False)
    assert not [node for node in program.graph.nodes if "mkldnn" in str(node.target)], "no runtime knows it"


def test_another_attention_that_a_layer_was_given_stays() -> None:
    network = nn.Sequential(PositionAttention(16)).eval()
    with plain_attention(network):
        (layer,) = (part for part in ready(network, (1, 16, 8, 8)).modules() if isinstance(part, PositionAttention))
    assert layer.attend is position_attention_plain
