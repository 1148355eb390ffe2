"""Readers of image and label files, one module a format."""
