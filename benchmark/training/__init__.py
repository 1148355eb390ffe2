"""Trains one network: loop, losses, checkpoints and determinism."""
