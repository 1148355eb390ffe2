"""Datasets: files, formats, splits and batches, and stand-ins for missing datasets."""
