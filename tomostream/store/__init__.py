"""Volumes on disk: read MRC files, write sharded OME-Zarr stores, and record which shards are written."""
