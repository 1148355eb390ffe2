"""The functions of ``import benchmark``, for notebooks and scripts."""
