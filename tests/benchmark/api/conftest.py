"""Reports here have blank plots, as those of the verbs' tests have."""

from tests.benchmark.cli.conftest import _blank_plots

__all__ = ["_blank_plots"]
