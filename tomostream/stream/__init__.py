"""Crops for training, streamed from stores: planned, read, turned, labelled, weighted."""
