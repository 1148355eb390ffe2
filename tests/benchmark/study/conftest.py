"""Reports of the commands that begin a study here have blank plots, as those of the verbs' tests have."""

from tests.benchmark.cli.conftest import _blank_plots

__all__ = ["_blank_plots"]
