"""Completes values of flags for the shell: names of models, datasets, protocols and studies."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def models(incomplete: str) -> list[str]:
    """Complete the last name of a comma list of models, of smp's networks the architecture."""
    from benchmark.config import registry, smp_names

    architectures = [smp_names.typed(architecture, "") for architecture in smp_names.ARCHITECTURES]
    return _last_of_list(incomplete, [*registry.GROUPS, *registry.models(), *architectures])


def datasets(ctx: Any, incomplete: str) -> list[str]:
    """Complete the last name of a comma list of datasets, the user's own included."""
    from benchmark.data.datasets import names_of_all

    return _last_of_list(incomplete, names_of_all(Path(ctx.params.get("data_root") or "data")))


def protocols(incomplete: str) -> list[str]:
    """Complete the name of a preset; the shell completes paths itself."""
    from benchmark.config.protocol import PRESETS

    return [name for name in PRESETS if name.startswith(incomplete)]


def studies(ctx: Any, incomplete: str) -> list[str]:
    """Complete the name of a study, but of no merged report, below ``--results``; the shell completes paths itself."""
    root = Path(ctx.params.get("results") or "results")
    folders = (path for path in root.glob("[!.]*/") if path.name.startswith(incomplete))
    return sorted(path.name for path in folders if not set(os.listdir(path)) <= {"report", "report-redacted"})


def metrics(incomplete: str) -> list[str]:
    """Complete the name of a metric or cost."""
    from benchmark.metrics import METRICS
    from benchmark.records.costs import COSTS

    names = dict.fromkeys([*METRICS, *COSTS, *(cost.topic for cost in COSTS.values())])
    return [name for name in names if name.startswith(incomplete)]


def _last_of_list(incomplete: str, names: Iterable[str]) -> list[str]:
    head, comma, last = incomplete.rpartition(",")
    return [f"{head}{comma}{name}" for name in names if name.startswith(last)]
