"""Writes trained networks as files that run without this project."""
