"""Devices: their facts, precision, memory and ways to launch work."""
