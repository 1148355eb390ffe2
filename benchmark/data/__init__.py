"""Datasets: finding, preparing, checking, reading and dividing them, and drawing stand-ins for them."""
