"""TF32 and bfloat16: what a GPU may round to, however somebody has set it, and what a device computes by itself."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch

from benchmark.devices import precision
from benchmark.devices.precision import computes_bfloat16, rounds_to_tf32, tf32


@pytest.fixture(params=["by flag", "by word"])
def _somebody_s(request: pytest.FixtureRequest) -> Iterator[None]:
    """Leave torch's settings as they are, or as they are where somebody uses the words of torch 2.9 and newer."""
    conv, matmul = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = conv.fp32_precision
    if request.param == "by word":
        conv.fp32_precision = "ieee"
        torch.backends.cudnn.rnn.fp32_precision = "tf32"
    yield
    conv.fp32_precision = torch.backends.cudnn.rnn.fp32_precision = before
    matmul.fp32_precision = "ieee"


@pytest.mark.usefixtures("_somebody_s")
def test_tf32_is_told_allowed_and_forbidden_however_it_was_set() -> None:
    convolutions, products = rounds_to_tf32("convolutions"), rounds_to_tf32("products")
    assert precision.float32_precision().startswith(f"convolution {'tf32' if convolutions else 'ieee'}, ")
    with tf32(convolutions=False, products=True):
        assert (rounds_to_tf32("convolutions"), rounds_to_tf32("products")) == (False, True)
        assert precision.float32_precision() == "convolution ieee, matmul high"
        with tf32(convolutions=True, products=False):
            assert (rounds_to_tf32("convolutions"), rounds_to_tf32("products")) == (True, False)
    assert (rounds_to_tf32("convolutions"), rounds_to_tf32("products")) == (convolutions, products)


def test_rocm_has_no_tf32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.4")
    assert precision.float32_precision() == "convolution ieee, matmul highest"


@pytest.mark.parametrize(("device", "expected"), [("cuda:0", False), ("cuda:1", True)])
def test_gpu_that_is_meant_is_asked_for_bfloat16(monkeypatch: pytest.MonkeyPatch, device: str, expected: bool) -> None:
    majors = {torch.device("cuda:0"): 7, torch.device("cuda:1"): 8}
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda asked: SimpleNamespace(major=majors[asked]))
    assert computes_bfloat16(torch.device(device)) is expected
