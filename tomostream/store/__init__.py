"""Volumes on disk: MRC files in, sharded OME-Zarr stores out; who has written what."""
