"""The strategies for finding particles, one folder each, and the modules that they share."""
