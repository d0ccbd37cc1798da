"""Score maps: a network over a volume, block by block, as over the whole."""
