"""Efficiency figures that measurements left beside a study: its own, those of ``profile`` and of other studies."""

from __future__ import annotations

import glob
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from benchmark import environment
from benchmark.efficiency import EfficiencyRecord
from benchmark.registry import ModelEntry, code_digest


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
        return min(found, key=lambda record: abs(record.height * record.width - size**2), default=None)

    def _of(self, entry: ModelEntry) -> Iterator[EfficiencyRecord]:
        """Yield figures of a network as it is now, the study's own first."""
        name = f"{glob.escape(entry.name)}.*.{self.device.partition(':')[0]}.float32.json"
        for file in sorted(self.study.parent.glob(f"[!.]*/efficiency/{name}"), key=self._elsewhere):
            record = read(file)
            if record is not None and is_of(record, entry):
                yield record

    def _elsewhere(self, file: Path) -> tuple[bool, Path]:
        return file.parents[1] != self.study, file


def device_name(device: str) -> str:
    """Return the model name of ``cpu`` or ``cuda:N``; empty where the GPU is another machine's."""
    if device == "cpu":
        return environment.cpu_name()
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
