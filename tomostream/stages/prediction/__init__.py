"""`predict`: score maps of tomograms."""
