"""Learning from batches: network, objectives, training loop, model folder; knows nothing of tomograms or stores."""
