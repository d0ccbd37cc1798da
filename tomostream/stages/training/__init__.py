"""`train`: from a configuration and clicks to a model folder."""
