"""`stats`: voxel statistics of tomograms."""
