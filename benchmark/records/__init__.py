"""Records define every stored file and the folder of a study."""
