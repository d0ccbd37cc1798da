"""Particle tables of tomostream and other software; the one place that converts between x, y, z in files and z, y, x in arrays.

Each module reads and writes one family of files and says its convention: unit, origin, order.  `registry` names them.
"""
