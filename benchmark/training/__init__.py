"""Trains one network: loop, loss, checkpoints and determinism."""
