"""Real layouts as data: GDS and OASIS files and rows of standard cells, shown as a microscope would show them.

| to read | ``gds`` (a file, in a process of its own), ``sky130`` (cells to rows), ``cells`` (what lies in a window) |
| to use  | ``windows`` (exact polygons of windows, from a seed), ``show`` (their masks and images, and onto the disk) |
"""
