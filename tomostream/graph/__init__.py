"""Dask graphs over whole volumes: lazy arrays, voxel statistics, label masks."""
