"""Studies: the runs that are asked for, those that are left, and doing them."""
