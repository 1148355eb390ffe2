"""Reads image and label files; each format has its own module."""
