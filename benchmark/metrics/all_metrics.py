"""Finds all metrics by name: the built-in ones, and those of installed packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from benchmark.metrics.counting import CONNECTION_COLUMNS, COUNT_COLUMNS
from benchmark.metrics.definitions import BUILTIN, Metric
from benchmark.utils import extensions
from benchmark.utils.errors import UserError


class _AllMetrics(Mapping[str, Metric]):
    """The built-in metrics, then those of installed packages, which are imported at the first use.

    A metric that cannot be imported is missing, and a warning says so once.
    """

    @property
    def _by_name(self) -> Mapping[str, Metric]:
        return {
            **BUILTIN,
            **{
                name: _installed(name)
                for name in extensions.installed("metrics")
                if extensions.imports("metrics", name)
            },
        }

    def __getitem__(self, name: str) -> Metric:
        found = BUILTIN.get(name)
        return self._by_name[name] if found is None else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)


def _installed(name: str) -> Metric:
    """Return the metric of an installed package.

    Raises:
        UserError: it is no :class:`Metric` of that name on counts that images have, or the name is taken.
    """
    metric = extensions.load("metrics", name)
    known = (*COUNT_COLUMNS, *CONNECTION_COLUMNS)
    fault = ""
    if not isinstance(metric, Metric):
        fault = f"found {type(metric).__name__}; expected a benchmark.metrics.Metric"
    elif name in BUILTIN:
        fault = "the name is taken; rename it in that package's metadata"
    elif metric.name != name:
        fault = f"the metric calls itself {metric.name!r}; expected the entry point's name"
    elif unknown := [column for column in metric.columns if column not in known]:
        fault = f"no column {unknown[0]!r}; expected columns out of {', '.join(known)}"
    if fault:
        raise UserError(f"entry point {name!r} of {extensions.group('metrics')!r}: {fault}")
    return metric  # type: ignore[no-any-return]


#: All metrics by name.
METRICS: Mapping[str, Metric] = _AllMetrics()
