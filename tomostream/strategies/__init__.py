"""The ways to find particles, beside the U-Net: what each keeps on disk, and how it scores."""
