"""Channels and hash of the shipped backbone.  Importing this module does not import torch."""

from typing import Final

CHANNELS: Final = (24, 48, 96)  # channels of its levels, finest first
SHA256: Final = "6e8e1c152ab9b65ff7e42aec60ee014f9a11b36e79a6b359587a496021657ab3"
