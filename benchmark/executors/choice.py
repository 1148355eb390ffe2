"""Chooses and builds the executor that the command line names."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from benchmark.devices.hardware_slots import Hardware
from benchmark.executors.events import Executor
from benchmark.executors.slurm import SlurmExecutor, SlurmOptions
from benchmark.executors.worker import Worker
from benchmark.utils.errors import UserError

Engine = Literal["local", "ray", "slurm"]


@dataclass(frozen=True)
class ExecutorChoice:
    """An engine and its settings."""

    engine: Engine = "local"
    slurm: SlurmOptions = field(default_factory=SlurmOptions)
    address: str | None = None  # of a Ray cluster; None starts Ray on this machine
    per_gpu: int = 1  # runs that share a GPU
    timeout_s: float | None = None  # limit of a run

    @property
    def remote(self) -> bool:
        """Whether runs are computed on other machines."""
        return self.engine == "slurm" or (self.engine == "ray" and self.address is not None)

    @property
    def line(self) -> str:
        """Line of a plan that names the engine; blank for local slots."""
        if self.engine == "slurm":
            return "Engine: Slurm, " + ", ".join(f"{name}={value}" for name, value in self.slurm if value is not None)
        if self.engine == "ray":
            return f"Engine: {f'the Ray cluster at {self.address}' if self.address else 'a Ray of this machine'}"
        return ""

    def executor(self, hardware: Hardware, folder: Path, ahead: Worker | None = None) -> Executor:
        """Return the executor for the study in a folder; local slots use the worker that was started ``ahead``."""
        if self.engine == "ray":
            from benchmark.executors.ray import RayExecutor

            return RayExecutor(hardware, address=self.address, per_gpu=self.per_gpu, timeout_s=self.timeout_s)
        if self.engine == "slurm":
            threads, gpu = hardware.threads_each, hardware.kind == "cuda"
            return SlurmExecutor(folder / "slurm", self.slurm, threads=threads, gpu=gpu, timeout_s=self.timeout_s)
        from benchmark.executors.local import LocalExecutor

        return LocalExecutor(hardware.slots, timeout_s=self.timeout_s, ahead=ahead)


def choose_executor(
    engine: Engine,
    *,
    slurm: str | None,
    address: str | None,
    workers: int | None,
    per_gpu: int,
    timeout_s: float | None,
) -> ExecutorChoice:
    """Return the choice that flags make.

    Raises:
        UserError: a flag does not fit the engine.
    """
    if slurm is not None and engine != "slurm":
        raise UserError("--slurm: only with --executor slurm")
    if address is not None and engine != "ray":
        raise UserError("--ray-address: only with --executor ray")
    address = (address or os.environ.get("RAY_ADDRESS") or None) if engine == "ray" else None
    choice = ExecutorChoice(engine, SlurmOptions.parse(slurm or ""), address, per_gpu, timeout_s)
    if choice.remote and workers is not None:
        remedy = "--slurm array=N" if engine == "slurm" else "the cluster's CPUs and GPUs"
        raise UserError(f"--workers: counts runs on this machine; on a cluster {remedy} decides")
    if engine == "slurm" and per_gpu > 1:
        raise UserError("--per-gpu: Slurm gives each job GPUs of its own; use --executor ray to share them")
    return choice
