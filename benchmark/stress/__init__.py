"""Stress tests: trained networks on stand-ins whose effects grow stronger one at a time."""
