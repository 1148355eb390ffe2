"""Compares the harness with the plain way of most repositories."""
