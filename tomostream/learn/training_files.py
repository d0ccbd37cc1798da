"""Names of the files that training keeps beside the model; does not import torch."""

METRICS_NAME = "metrics.csv"  # one row per epoch
CHECKPOINT_NAME = "checkpoint.pt"  # everything needed to resume
