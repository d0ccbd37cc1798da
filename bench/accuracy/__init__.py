"""The paper's comparison on simulated tomograms with known truth."""
