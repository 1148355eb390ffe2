"""How a run's work is given to its device: what ``--execution`` may say, and what of it does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from benchmark.config.protocol import Determinism
from benchmark.utils.errors import UserError

#: ``auto`` is ``graph`` on a GPU and ``eager`` on a CPU. Numbers do not depend on it beyond rounding, so that it is no
#: setting of a protocol.
Execution = Literal["auto", "eager", "graph", "compile"]
#: What tables call the way that figures were taken; nothing for ``eager``, which needs no word.
WORDS: Mapping[str, str] = {"graph": "CUDA graph", "compile": "torch.compile"}


def refuse(asked: Execution, device: str, determinism: Determinism) -> None:
    """Refuse what cannot be.

    Args:
        asked: what the flag says.
        device: ``cpu``, ``cuda`` or ``cuda:N``.
        determinism: of the protocol.

    Raises:
        UserError: graphs without a GPU, or compiled kernels where every run must take the same.
    """
    if asked == "graph" and device == "cpu":
        raise UserError(
            "--execution graph: replays CUDA graphs, and the device is a CPU; "
            "use --device cuda, or --execution auto, which replays them where there is a GPU"
        )
    if asked == "compile" and determinism == "deterministic":
        raise UserError(
            "--execution compile: on a GPU torch.compile keeps the kernels that a race has found fastest, which "
            "determinism=deterministic forbids; use --execution auto, or --set determinism=seeded"
        )
