"""Builds the tables of a report."""
