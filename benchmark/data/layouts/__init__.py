"""Real layouts as datasets: windows of GDS and OASIS files, drawn as microscope images."""
