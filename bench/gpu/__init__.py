"""Measure tomostream on a GPU, and test it there, by one command for a machine that is available for minutes only (`__main__`)."""
