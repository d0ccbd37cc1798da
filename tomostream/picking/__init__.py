"""Exact greedy picking of a score volume, out of core."""
