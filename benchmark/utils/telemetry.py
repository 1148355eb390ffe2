"""Stops the packages in use from reporting to their makers."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from types import MappingProxyType

#: Each is read once, when its package is imported or started.
OFF: Mapping[str, str] = MappingProxyType(
    {
        # On Linux and macOS from 1.29 on, the import alone writes a device id and an event below the user's cache
        # folder; onnxruntime.disable_telemetry_events() comes too late for both.
        "ORT_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",  # of huggingface_hub, which timm and segmentation_models_pytorch import
        "RAY_USAGE_STATS_ENABLED": "0",
        "MLFLOW_DISABLE_TELEMETRY": "true",  # its client reports; its file store, which trackers use, does not
        "WANDB_ERROR_REPORTING": "false",
    }
)


def switch_off() -> None:
    """Set the environment variables that switch reports off, in this process and its children.

    A variable that the user has set stays. OpenVINO's reports have no variable, and its import alone sends one and
    writes an id below the home folder; without the package that sends them, it reports nothing (in this process).
    """
    for name, value in OFF.items():
        os.environ.setdefault(name, value)
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # Python's own sign: no such package
