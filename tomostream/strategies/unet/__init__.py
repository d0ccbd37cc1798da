"""The default strategy: a residual U-Net under a positive-unlabelled objective, joined by a matched filter."""
