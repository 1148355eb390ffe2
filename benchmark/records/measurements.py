"""Efficiency figures that measurements left beside a study: its own, those of ``profile`` and of other studies."""

from __future__ import annotations

import glob
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from benchmark.config.registry import ModelEntry, code_digest
from benchmark.devices import facts
from benchmark.records import claims, environment
from benchmark.records.efficiency_record import MEASURING, EfficiencyRecord, EfficiencySettings


class Figures:
    """What has been measured on the kind of device that a study uses; broken files count as none."""

    def __init__(self, study: Path, device: str) -> None:
        """Name the place.

        Args:
            study: ``results/<study>``, whose neighbours count too.
            device: ``cpu`` or ``cuda:N``.
        """
        self.study, self.device = study, device

    def of(self, entry: ModelEntry, size: int) -> EfficiencyRecord | None:
        """Return figures of a network taken on this machine's device, at a size or else at the nearest area."""
        found = [record for record in self._of(entry) if record.device_name == device_name(self.device)]
        return min(found, key=lambda one: (abs(one.height * one.width - size**2), bool(one.hindered)), default=None)

    def _of(self, entry: ModelEntry) -> Iterator[EfficiencyRecord]:
        """Yield figures of a network as it is now, the study's own first."""
        kind = self.device.partition(":")[0]
        for _, record in self._files(f"{glob.escape(entry.name)}.*.{kind}.float32.json"):
            if is_of(record, entry):
                yield record

    def of_machine(self) -> list[EfficiencyRecord]:
        """Return all figures that were taken on this machine since it was started."""
        everything = (record for _, record in self._files("[!.]*.json"))
        return [record for record in everything if record.origin and record.origin.machine == claims.machine()]

    def elsewhere(self, name: str) -> Iterator[tuple[str, EfficiencyRecord]]:
        """Yield the figures in files of one name in other studies, each with its study."""
        for file, record in self._files(glob.escape(name)):
            if file.parents[1] != self.study:
                yield file.parents[1].name, record

    def _files(self, pattern: str) -> Iterator[tuple[Path, EfficiencyRecord]]:
        """Yield the figures of all studies of the results folder, this one's first."""
        for file in sorted(self.study.parent.glob(f"[!.]*/efficiency/{pattern}"), key=self._elsewhere):
            if (record := read(file)) is not None:
                yield file, record

    def _elsewhere(self, file: Path) -> tuple[bool, Path]:
        return file.parents[1] != self.study, file


def device_name(device: str) -> str:
    """Return the model name of ``cpu`` or ``cuda:N``; empty where the GPU is another machine's."""
    if device == "cpu":
        return facts.cpu_name()
    if "torch" not in sys.modules:
        return ""
    import torch  # loaded already, where a GPU was found

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""


def read(file: Path) -> EfficiencyRecord | None:
    """Return the figures in a file, ``None`` where there is none or a broken one."""
    try:
        return EfficiencyRecord.from_json(file.read_bytes())
    except (OSError, ValidationError):
        return None


def is_of(record: EfficiencyRecord, entry: ModelEntry) -> bool:
    """Tell whether figures are of a network as it is now; a variant's name begins with its parent's."""
    found = (record.model, record.model_version, record.network_code)
    return found == (entry.name, entry.version, code_digest(entry))


def would_be_measured_again(
    record: EfficiencyRecord, entry: ModelEntry, device: str, threads: int, settings: EfficiencySettings
) -> bool:
    """Tell whether figures are what measuring now would give.

    They were measured unhindered since this machine was started, of the same code of the network, in the same way and
    release of torch, with variables that choose the same kernels, and for at least as long.
    """
    origin = record.origin
    if origin is None or record.hindered or not is_of(record, entry):
        return False
    longer = max(record.settings.throughput_seconds, settings.throughput_seconds)
    precision = record.float32_precision
    if record.device == "cuda":
        from benchmark.devices.precision import float32_precision  # with torch, which a GPU's job has imported

        precision = float32_precision()
    release = importlib.metadata.version("torch").partition("+")[0]
    found = (origin.machine, origin.measuring, origin.variables, record.device_name, record.threads)
    return (
        found == (claims.machine(), MEASURING, environment.kernel_variables(), device_name(device), threads)
        and record.settings == settings.model_copy(update={"throughput_seconds": longer})
        and (record.torch.partition("+")[0], record.float32_precision) == (release, precision)
    )
