"""Errors, files, names, seeds and processes that every layer uses."""
