"""Score a volume block by block, with the same result as on the whole volume."""
