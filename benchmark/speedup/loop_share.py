"""Measures the share of a run outside the network, and its start-up."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from benchmark.config.protocol import Protocol
from benchmark.config.registry import ModelEntry
from benchmark.data.batches import TrainingBatches, evaluation_batches
from benchmark.data.packs import Pack
from benchmark.devices.precision import to_device, using_threads
from benchmark.devices.process_memory import keeping_freed_memory
from benchmark.evaluation.evaluate import evaluate
from benchmark.records.speedup_record import SpeedupComparison
from benchmark.runs.train import FIRST_STEP
from benchmark.speedup.networks import build
from benchmark.speedup.setting import SpeedupSetting
from benchmark.training.loop import train
from benchmark.utils.errors import UserError

POLL_S, PATIENCE_S = 0.005, 120.0
MESSAGE_CHARACTERS = 500  # of a command that failed


class _Clock:
    """Adds up the seconds of a network's forwards, of backward passes and of optimiser steps."""

    def __init__(self, setting: SpeedupSetting) -> None:
        self.setting, self.inside, self._since = setting, 0.0, 0.0

    def start(self, *_: object) -> None:
        self.setting.wait()
        self._since = time.perf_counter()

    def stop(self, *_: object) -> None:
        self.setting.wait()
        self.inside += time.perf_counter() - self._since

    @contextlib.contextmanager
    def on(self, network: nn.Module) -> Iterator[None]:
        backward = Tensor.backward

        def timed(loss: Tensor, *arguments: Any, **named: Any) -> None:
            self.start()
            backward(loss, *arguments, **named)  # type: ignore[no-untyped-call]
            self.stop()

        hooks = [network.register_forward_pre_hook(self.start), network.register_forward_hook(self.stop)]
        hooks += [register_optimizer_step_pre_hook(self.start), register_optimizer_step_post_hook(self.stop)]
        try:
            Tensor.backward = timed  # type: ignore[method-assign, assignment]  # torch has no hook around a whole backward pass
            yield
        finally:
            Tensor.backward = backward  # type: ignore[method-assign]
            for hook in hooks:
                hook.remove()


def loop(entry: ModelEntry, pack: Pack, protocol: Protocol, setting: SpeedupSetting) -> SpeedupComparison:
    """Train, validate and test for one epoch as ``run`` does; measure the share outside the network.

    Args:
        entry: the network.
        pack: the images.
        protocol: gives the split.
        setting: where to measure.
    """
    division, size = pack.divide(protocol), pack.images.shape[1]
    epoch = protocol.model_copy(update={"training": protocol.training.model_copy(update={"epochs": 1})})
    batches = TrainingBatches([(pack, division.train)], size, protocol, 0, setting.device)
    network, clock = to_device(build(entry), setting.device), _Clock(setting)
    with using_threads(setting.threads), keeping_freed_memory(), clock.on(network):
        started = time.perf_counter()
        train(
            network,
            batches,
            lambda: evaluation_batches(pack, division.val, size, protocol.evaluation.batch, setting.device),
            epoch,
            lambda done, total: None,
        )
        evaluate(network, pack, division.test, protocol, setting.device)
        setting.wait()
        whole = time.perf_counter() - started
    count = sum(map(len, (division.train, division.val, division.test)))
    return setting.comparison(
        what="loop",
        model=entry.name,
        size=size,
        unit="share",
        ours=(1 - clock.inside / whole,),
        plain_form="",
        our_form=f"one epoch over {count} images with validation and test, protocol {protocol.name}: share of the time "
        "outside forward, backward and optimiser",
    )


def start_up(data_root: Path, cache: Path, setting: SpeedupSetting) -> SpeedupComparison:
    """Measure from typing ``run`` to the end of the first training step: imports, plan, worker, opening the pack.

    Args:
        data_root: where datasets are looked for.
        cache: of packs; the images are packed before.
        setting: where to measure.
    """
    with tempfile.TemporaryDirectory() as results:
        command = [sys.executable, "-m", "benchmark", "run", "--models", "edanet", "--datasets", "omc-syn"]
        command += ["--protocol", "quick", "--study", "start", "--device", setting.name]
        command += [
            "--threads",
            str(setting.threads),
            "--data-root",
            str(data_root),
            "--cache",
            str(cache),
            "--results",
            results,
            "--repeats",
        ]
        log = Path(results, "start", "runs", "omc-syn", "edanet")
        # The first call, not timed, builds the pack and measures efficiency; every later one has one repeat to do.
        subprocess.run([*command, "1"], check=True, capture_output=True)
        seconds = [
            until_first_step([*command, str(number + 1)], log / str(number) / "log.txt")
            for number in range(1, setting.rounds + 1)
        ]
    return setting.comparison(
        what="start_up",
        model="edanet",
        unit="s",
        ours=tuple(seconds),
        plain_form="",
        our_form="from the command to the end of the first training step, images packed before",
    )


def until_first_step(command: list[str], log: Path, patience_s: float = PATIENCE_S) -> float:
    """Return the seconds from a command's start to the first training step in its log, and wait for its end.

    Raises:
        UserError: no such step before the command's end or within ``patience_s``; gives the command's last messages.
    """
    seconds = None
    with tempfile.TemporaryFile() as messages:  # a pipe that nobody reads fills up and stops the command
        started = time.perf_counter()
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=messages) as process:
            while process.poll() is None and time.perf_counter() - started < patience_s:
                if seconds is None and log.is_file() and FIRST_STEP in log.read_text("utf-8", "replace"):
                    seconds = time.perf_counter() - started
                time.sleep(POLL_S)
            process.kill()  # has no effect after its end; a command that hangs would never let this block end
        messages.seek(0)
        last = messages.read().decode("utf-8", "replace").strip()[-MESSAGE_CHARACTERS:]
    if seconds is None:
        raise UserError(f"bench: no first training step within {patience_s:g} s of {' '.join(command)}: {last}")
    return seconds
