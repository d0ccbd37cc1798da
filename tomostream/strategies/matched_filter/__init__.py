"""The strategies `average` and `template`: scoring by normalised cross-correlation, without a network."""
