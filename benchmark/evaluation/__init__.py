"""Turns predictions of test images into integer counts."""
