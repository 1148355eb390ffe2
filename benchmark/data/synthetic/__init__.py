"""Stand-ins for the four data sets: drawn layouts with exact masks, shown as a microscope would show them."""

from benchmark.data.synthetic.effects import CONVENTION, Stress
from benchmark.data.synthetic.standins import STANDINS, Sample, StandIn, Target, generate, write

__all__ = ["CONVENTION", "STANDINS", "Sample", "StandIn", "Stress", "Target", "generate", "write"]
