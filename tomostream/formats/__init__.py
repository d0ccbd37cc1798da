"""Particle tables of this and other software; the one place where x, y, z of files become z, y, x of arrays, and back.

Each module reads and writes one family of files and says its convention: unit, origin, order.  `registry` names them.
"""
