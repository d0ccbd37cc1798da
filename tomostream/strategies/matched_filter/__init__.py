"""The strategies `average` and `template`: normalised cross-correlation, without a network."""
