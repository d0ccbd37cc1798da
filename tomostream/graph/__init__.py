"""Dask graphs over whole volumes: arrays of any kind made lazy, statistics, label masks."""
