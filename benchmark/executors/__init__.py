"""Executors do jobs on this machine, on Ray or on Slurm."""
