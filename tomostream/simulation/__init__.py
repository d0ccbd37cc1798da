"""Simulate small tomograms with known truth: particles, tilt series, reconstruction."""
