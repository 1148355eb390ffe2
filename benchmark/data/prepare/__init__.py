"""Turns an owner's download into a dataset's folder."""
