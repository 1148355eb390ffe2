"""Real layouts as data: windows of GDS and OASIS files as a microscope shows them."""
