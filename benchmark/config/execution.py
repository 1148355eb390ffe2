"""Defines the values of ``--execution`` and refuses impossible combinations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from benchmark.config.setting_types import Determinism
from benchmark.utils.errors import UserError

#: ``auto`` is ``graph`` on a GPU and ``eager`` on a CPU. It affects rounding only, so it is not part of a protocol.
Execution = Literal["auto", "eager", "graph", "compile"]
#: Names of the modes in tables; ``eager`` has none.
WORDS: Mapping[str, str] = {"graph": "CUDA graph", "compile": "torch.compile"}


def refuse(execution: Execution, device: str, determinism: Determinism) -> None:
    """Refuse combinations of execution mode, device (``cpu``, ``cuda``, ``cuda:N``) and determinism that do not work.

    Raises:
        UserError: graphs without a GPU, or compiled kernels in ``deterministic`` runs.
    """
    if execution == "graph" and device == "cpu":
        raise UserError(
            "--execution graph: replays CUDA graphs, and the device is a CPU; "
            "use --device cuda, or --execution auto, which replays them where there is a GPU"
        )
    if execution == "compile" and determinism == "deterministic":
        raise UserError(
            "--execution compile: on a GPU torch.compile keeps the kernels that a race has found fastest, which "
            "determinism=deterministic forbids; use --execution auto, or --set determinism=seeded"
        )
