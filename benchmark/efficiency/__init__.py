"""Measures the parameters, operations, latency, memory and energy of a network."""
