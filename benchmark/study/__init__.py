"""Studies plan the runs of a call and execute those that are left."""
