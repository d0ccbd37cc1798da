"""What the shipped backbone is; nothing here imports torch."""

from typing import Final

CHANNELS: Final = (24, 48, 96)  # of its levels, finest first
SHA256: Final = "6e8e1c152ab9b65ff7e42aec60ee014f9a11b36e79a6b359587a496021657ab3"
