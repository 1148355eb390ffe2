"""Turns masks into polygons and writes them as SVG, GDSII and OASIS."""
