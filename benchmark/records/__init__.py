"""Records: every stored form, and the folder of a study that holds them."""
