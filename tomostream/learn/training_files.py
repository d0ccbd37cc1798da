"""The files that training keeps in its folder beside the model; nothing here imports torch."""

METRICS_NAME = "metrics.csv"  # one row per epoch
CHECKPOINT_NAME = "checkpoint.pt"  # all that a killed training needs to go on
