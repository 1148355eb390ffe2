"""The study that the verb `run` finished once, as the tests of the verbs have it."""

from tests.benchmark.cli.conftest import finished, workplace

__all__ = ["finished", "workplace"]
