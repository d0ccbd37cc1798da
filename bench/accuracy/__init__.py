"""Compare the systems of the TomoPicker paper on simulated tomograms with known truth."""
