"""Networks in int8: their logits stay close, and a norm that follows no convolution gives no remarks."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.predict.export.export_formats import read_onnx
from benchmark.predict.export.quantised import quantised
from benchmark.predict.fused_network import ready
from benchmark.predict.runtimes import Deployment


def test_network_with_a_norm_apart_is_quantised_without_remarks(caplog: pytest.LogCaptureFixture) -> None:
    for package in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="needs the extra: pip install -e '.[runtimes]'")
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(8), nn.Conv2d(8, 1, 1)).eval()
    exact = Deployment(ready(network, (1, 1, 16, 16)), 1, 16, threads=1, batch=1).onnx
    images = np.random.default_rng(0).random((4, 1, 1, 16, 16), np.float32)
    caplog.clear()
    whole = read_onnx(quantised(exact, images), 1, 1)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with torch.inference_mode():
        logits = network(torch.from_numpy(images[0])).numpy()
    difference = np.abs(whole(images[0]) - logits).max()
    assert 0 < difference < 0.05 * np.abs(logits).max()
