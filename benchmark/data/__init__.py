"""Finds, prepares, checks, reads and divides datasets, and draws stand-ins for them."""
