"""Forecast runs on a facility's data sets by a discrete-event model of `predict`, with measured costs."""
