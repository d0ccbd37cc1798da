"""Train networks on batches: layers, objectives, the training loop, checkpoints.  Nothing here knows of tomograms or stores."""
