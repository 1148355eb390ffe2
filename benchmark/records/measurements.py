"""Finds stored efficiency figures of a study and of the studies beside it."""

from __future__ import annotations

import contextlib
import glob
import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from benchmark.config.code_identity import code_digest
from benchmark.config.registry import ModelEntry
from benchmark.devices import facts
from benchmark.records import claims, environment
from benchmark.records.efficiency_record import MEASURING, EfficiencyRecord, EfficiencySettings
from benchmark.records.packed_study import read_stored, stored_files
from benchmark.records.store import RECORD_BYTES
from benchmark.utils.errors import UserError


class Figures:
    """Efficiency figures for a device (``cpu`` or ``cuda:N``) in ``results/<study>`` and the studies beside it.

    Broken files are ignored.
    """

    def __init__(self, study: Path, device: str) -> None:
        self.study, self.device = study, device

    def of(self, entry: ModelEntry, size: int, *, timed: bool = False) -> EfficiencyRecord | None:
        """Return float32 figures of a network's present code on this model of device, at the nearest area to size².

        Those that other load hindered have good memory, but times up to a hundred times too long: ``timed`` skips them.
        """
        files = self._files(f"{glob.escape(entry.name)}.*.{self.device.partition(':')[0]}.float32.json")
        name = device_name(self.device)
        records = [record for _, record in files if is_of(record, entry) and record.device_name == name]
        records = [record for record in records if not (timed and record.hindered)]
        return min(records, key=lambda of: (abs(of.height * of.width - size**2), bool(of.hindered)), default=None)

    def of_machine(self) -> list[EfficiencyRecord]:
        """Return all figures that were measured on this machine since its start."""
        records = (record for _, record in self._files("[!.]*.json"))
        return [record for record in records if record.origin and record.origin.machine == claims.machine()]

    def elsewhere(self, name: str) -> Iterator[tuple[str, EfficiencyRecord]]:
        """Yield the figures in files of this name in other studies, each after the name of its study."""
        for file, record in self._files(glob.escape(name)):
            if file.parents[1] != self.study:
                yield file.parents[1].name, record

    def _files(self, pattern: str) -> Iterator[tuple[Path, EfficiencyRecord]]:
        """Yield the figures of all studies in the results folder, those of this study first."""
        files: list[Path] = []
        for study in self.study.parent.glob("[!.]*/"):
            with contextlib.suppress(UserError):
                files += stored_files(study, f"efficiency/{pattern}")
        for file in sorted(files, key=lambda file: (file.parents[1] != self.study, file)):
            if (record := read(file)) is not None:
                yield file, record


def device_name(device: str) -> str:
    """Return the model name of ``cpu`` or ``cuda:N``; empty for a GPU of another machine."""
    if device == "cpu":
        return facts.cpu_name()
    if "torch" not in sys.modules:
        return ""
    import torch  # already loaded if a GPU was found

    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else ""


def read(file: Path) -> EfficiencyRecord | None:
    """Return the figures in a file, ``None`` if it is missing or broken."""
    try:
        return EfficiencyRecord.from_json(read_stored(file, RECORD_BYTES))
    except (OSError, ValidationError, UserError):
        return None


def is_of(record: EfficiencyRecord, entry: ModelEntry) -> bool:
    """Return whether figures belong to the present code of a network; a variant's name begins with its parent's."""
    measured = (record.model, record.model_version, record.network_code)
    return measured == (entry.name, entry.version, code_digest(entry))


def would_be_measured_again(
    record: EfficiencyRecord, entry: ModelEntry, device: str, threads: int, settings: EfficiencySettings
) -> bool:
    """Return whether a measurement now would give these figures.

    They must be unhindered, measured since this machine's start, for at least as long, in the same way, with the same
    code of the network, release of torch and variables that choose kernels.
    """
    origin = record.origin
    if origin is None or record.hindered or record.weights or not is_of(record, entry):
        return False
    longer = max(record.settings.throughput_seconds, settings.throughput_seconds)
    precision = record.float32_precision
    if record.device == "cuda":
        from benchmark.devices.precision import float32_precision  # imports torch, as a job on a GPU has

        precision = float32_precision()
    release = importlib.metadata.version("torch").partition("+")[0]
    measured = (origin.machine, origin.measuring, origin.variables, record.device_name, record.threads)
    return (
        measured == (claims.machine(), MEASURING, environment.kernel_variables(), device_name(device), threads)
        and record.settings == settings.model_copy(update={"throughput_seconds": longer})
        and (record.torch.partition("+")[0], record.float32_precision) == (release, precision)
    )
