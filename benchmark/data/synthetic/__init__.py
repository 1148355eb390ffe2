"""Stand-ins for the four data sets: random layouts with masks, drawn as microscope images."""

from benchmark.data.synthetic.effects import CONVENTION, Stress
from benchmark.data.synthetic.standins import STANDINS, Sample, generate, write

__all__ = ["CONVENTION", "STANDINS", "Sample", "Stress", "generate", "write"]
