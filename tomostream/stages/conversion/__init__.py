"""`convert`: MRC files become OME-Zarr stores."""
