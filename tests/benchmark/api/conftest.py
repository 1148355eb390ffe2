"""The study that the verb `run` finished once, as the tests of the verbs have it."""

from tests.benchmark.cli.conftest import _blank_plots, finished, workplace

__all__ = ["_blank_plots", "finished", "workplace"]
