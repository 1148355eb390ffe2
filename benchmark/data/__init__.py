"""Datasets: folders and stand-ins, masks, splits and packs."""
