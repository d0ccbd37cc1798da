"""Particle picking in cryo-electron tomograms from a few clicks, out of core."""

__version__ = "0.1.0"
