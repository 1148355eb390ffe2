"""Runs train, stress or measure one network in one process."""
