"""Reads which executor a command line chooses, and builds it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.devices.hardware import Hardware
from benchmark.executors.events import Executor
from benchmark.executors.slurm import SlurmExecutor, SlurmOptions
from benchmark.executors.worker import Worker
from benchmark.utils.errors import UserError


@dataclass(frozen=True)
class ExecutorChoice:
    """An engine and its settings.

    Attributes:
        engine: what does the runs.
        slurm: what to ask Slurm for.
        address: of a Ray cluster; ``None`` for a Ray on this machine.
        per_gpu: runs that share a GPU.
        timeout_s: after which a run is ended.
    """

    engine: Literal["local", "ray", "slurm"] = "local"
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    address: str | None = None
    per_gpu: int = 1
    timeout_s: float | None = None

    @property
    def remote(self) -> bool:
        """Whether runs are computed on machines of which this one knows nothing."""
        return self.engine == "slurm" or (self.engine == "ray" and self.address is not None)

    @property
    def line(self) -> str:
        """What a plan says of the engine; nothing of this machine's own slots."""
        if self.engine == "slurm":
            asked = {name: value for name, value in self.slurm if value is not None}
            return "Engine: Slurm, " + ", ".join(f"{name}={value}" for name, value in asked.items())
        if self.engine == "ray":
            return f"Engine: {f'the Ray cluster at {self.address}' if self.address else 'a Ray of this machine'}"
        return ""

    def executor(self, hardware: Hardware, folder: Path, ahead: Worker | None = None) -> Executor:
        """Return what does the jobs of the study in a folder, here with a worker that was started already."""
        if self.engine == "ray":
            from benchmark.executors.ray import RayExecutor

            return RayExecutor(hardware, address=self.address, per_gpu=self.per_gpu, timeout_s=self.timeout_s)
        if self.engine == "slurm":
            return SlurmExecutor(
                folder / "slurm",
                self.slurm,
                threads=hardware.threads_each,
                gpu=hardware.kind == "cuda",
                timeout_s=self.timeout_s,
            )
        from benchmark.executors.local import LocalExecutor

        return LocalExecutor(hardware.slots, timeout_s=self.timeout_s, ahead=ahead)


def choose(
    engine: Literal["local", "ray", "slurm"],
    *,
    slurm: str | None,
    address: str | None,
    workers: int | None,
    per_gpu: int,
    timeout_s: float | None,
) -> ExecutorChoice:
    """Check flags against each other.

    Raises:
        UserError: a flag that the engine has no use for.
    """
    if slurm is not None and engine != "slurm":
        raise UserError("--slurm: only with --executor slurm")
    if address is not None and engine != "ray":
        raise UserError("--ray-address: only with --executor ray")
    chosen = ExecutorChoice(
        engine,
        SlurmOptions.parse(slurm or ""),
        (address or os.environ.get("RAY_ADDRESS") or None) if engine == "ray" else None,
        per_gpu,
        timeout_s,
    )
    if chosen.remote and workers is not None:
        remedy = "--slurm array=N" if engine == "slurm" else "the cluster's CPUs and GPUs"
        raise UserError(f"--workers: counts runs on this machine; on a cluster {remedy} decides")
    if engine == "slurm" and per_gpu > 1:
        raise UserError("--per-gpu: Slurm gives each job GPUs of its own; use --executor ray to share them")
    return chosen
