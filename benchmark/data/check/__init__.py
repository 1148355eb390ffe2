"""Checks a dataset's folder before a study uses it."""
