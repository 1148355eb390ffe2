"""Lists the comparisons of the harness with the plain way."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.devices.facts import cpu_has_bfloat16
from benchmark.records.speedup_record import ComparedWork, SpeedupComparison

if TYPE_CHECKING:
    from torch import Tensor, nn

    from benchmark.config.protocol import Protocol
    from benchmark.config.registry import ModelEntry
    from benchmark.data.datasets import Source
    from benchmark.data.packs import Pack
    from benchmark.predict.fused_network import Dtype
    from benchmark.speedup.setting import SpeedupSetting

__all__ = ["ComparedWork", "SpeedupComparison", "Subject", "measurements"]

#: Images of the loop's epoch, and of those as many as feeding and whole epochs of both ways take.
IMAGES, FED = 200, 16
#: Trainings beside each other on a GPU. On a CPU there are as many as threads, on images of the quick protocol's side,
#: pixels: larger ones keep all threads busy alone.
RUNS, SMALL_INPUT = 4, 96


@dataclass(frozen=True)
class Subject:
    """Networks, sizes and images of the comparisons.

    Attributes:
        method: the network with attention, measured at every size.
        others: the networks that are measured at the first size only.
        lightest: the network whose loop leaves least to hide bookkeeping behind.
        sizes: of the inputs, pixels.
        source: of the images, as many as :data:`IMAGES`.
        protocol: settings of the trainings.
        data_root: where datasets are looked for.
        cache: of packs.
        quantised: folder of a study with the networks and training sets of it that are compared in int8.
        trained: the method with weights of a study and that study's test images; ``None`` where there are none.
    """

    method: ModelEntry
    others: Sequence[ModelEntry]
    lightest: ModelEntry
    sizes: Sequence[int]
    source: Source
    protocol: Protocol
    data_root: Path
    cache: Path
    trained: tuple[nn.Module, Sequence[Tensor]] | None
    quantised: tuple[Path, Sequence[tuple[ModelEntry, str]]] = (Path(), ())

    def trained_entries(self, kind: str) -> list[ModelEntry]:
        """Return the networks whose training is measured: on a GPU, which they leave idle, all light ones."""
        light = [entry for entry in self.others if entry.family == "lightweight" and entry != self.lightest]
        return [self.method, self.lightest, *(light if kind == "cuda" else [])]


def measurements(
    subject: Subject, only: Sequence[ComparedWork], setting: SpeedupSetting
) -> Iterator[tuple[str, Callable[[], SpeedupComparison]]]:
    """Yield what is to be measured, with its name; each is measured when it is called."""
    from benchmark.data.packs import open_pack
    from benchmark.speedup import feeding, forwards, int8_forwards, loop_share, runtime_forwards, sharing, steps

    method, sizes, protocol = subject.method, subject.sizes, subject.protocol
    if "start_up" in only:
        yield "start-up", partial(loop_share.start_up, subject.data_root, subject.cache, setting)
    if {"feeding", "training", "loop"} & set(only):
        pack: Pack = open_pack(subject.source, protocol, subject.cache)
        with tempfile.TemporaryDirectory() as folder:
            pictures = feeding.write(pack, FED, Path(folder))
            if "feeding" in only:
                yield "feeding", partial(feeding.feeding, pictures, protocol, setting)
            if "training" in only:
                for entry in subject.trained_entries(setting.kind):
                    yield f"training {entry.name}", partial(steps.epochs, entry, pictures, protocol, setting)
        if "loop" in only:
            for entry in (method, subject.lightest):
                yield (
                    f"loop {entry.name}",
                    partial(loop_share.loop, entry, pack, protocol, setting),
                )
    measured = [*((method, size) for size in sizes), *((other, sizes[0]) for other in subject.others)]
    half = setting.kind == "cuda" or cpu_has_bfloat16()
    if "forward" in only:
        for entry, size in measured:
            yield f"forward {entry.name} {size}", partial(forwards.forward, entry, size, setting)
        if half:
            network, images = subject.trained or (None, ())
            for size in sizes:
                name = f"forward {method.name} {size} bfloat16"
                yield name, partial(forwards.half_forward, method, size, setting, network, images)
    if "runtimes" in only:
        formats: Sequence[Dtype] = ("float32", "bfloat16") if half else ("float32",)
        for dtype, (entry, size) in itertools.product(formats, measured):
            name = " ".join(("runtimes", entry.name, str(size), *([dtype] if dtype != "float32" else [])))
            yield name, partial(runtime_forwards.beside_runtimes, entry, size, setting, dtype)
    if "int8" in only and setting.kind == "cpu":
        study, networks = subject.quantised
        for entry, train in networks:
            of = (study, entry, train, subject.data_root, subject.cache, setting)
            yield f"int8 {entry.name} {train}", partial(int8_forwards.in_int8, *of)
    if "together" in only:
        size, runs = (sizes[0], RUNS) if setting.kind == "cuda" else (SMALL_INPUT, setting.threads)
        run = partial(sharing.together, subject.lightest, size, runs, protocol, setting)
        yield f"together {subject.lightest.name} {size}", partial(run, "eager")
    if setting.kind == "cuda":
        if "together_replayed" in only:
            run = partial(sharing.together, subject.lightest, sizes[0], RUNS, protocol, setting)
            yield f"together {subject.lightest.name} {sizes[0]} replayed", partial(run, "graph", "together_replayed")
        if "replayed" in only:
            for entry in subject.trained_entries(setting.kind):
                yield f"replayed {entry.name} {sizes[0]}", partial(forwards.replayed, entry, sizes[0], setting)
    if setting.kind == "cpu":  # a GPU's memory is what torch's allocator says, and is in `profile`
        if "forward_memory" in only:
            yield f"memory {method.name} {sizes[-1]}", partial(forwards.forward_memory, method, sizes[-1], setting)
        if "train_step_memory" in only:
            for size in sizes:
                name = f"training memory {method.name} {size}"
                yield name, partial(steps.train_step_memory, method, size, protocol, setting)
    if "train_step" in only:
        for size in sizes:
            yield f"training step {method.name} {size}", partial(steps.train_step, method, size, protocol, setting)
