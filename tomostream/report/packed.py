"""Encode arrays and pictures as text for the report page: base64 of little-endian numbers, or of WebP.

Positions are stored as fractions of the volume's edges in 16 bits, so they are off by at most 1/131070 of an edge.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tomostream.geometry import Triple

_STEPS = 65535
_QUALITIES = (60, 45, 32, 22)  # of WebP; at lower ones noise turns into blocks
_SHRINK = 0.8  # factor of the edges per step, if even the lowest quality is too large
_LEAST_EDGE = 96  # pixels


def base64_of(content: bytes) -> str:
    """Encode bytes as base64 text."""
    return base64.b64encode(content).decode("ascii")


def packed(values: np.ndarray, kind: str) -> str:
    """Encode numbers as a numpy type such as `<f4`, in base64."""
    return base64_of(np.ascontiguousarray(values, dtype=kind).tobytes())


def packed_positions(zyx: np.ndarray, shape: Triple) -> str:
    """Encode positions (n, 3), z y x in level-0 voxels, as fractions of the volume: x y z, unsigned 16 bits, clipped to the volume."""
    shares = (zyx + 0.5) / np.asarray(shape, dtype=np.float64)
    return packed(np.rint(np.clip(shares, 0, 1) * _STEPS)[:, ::-1], "<u2")


def webp_within(pictures: list[np.ndarray], most: int) -> tuple[list[bytes], float]:
    """Compress grey pictures of one size to at most `most` bytes together; return them, and the factor (<= 1) of their edges.

    The best quality that fits is taken; if none does, the pictures are shrunk too.  They don't become smaller than `_LEAST_EDGE` pixels,
    even if they then take more than `most` bytes.
    """
    for shrink, quality in _tries(max(pictures[0].shape)):
        if len(_webp(pictures[len(pictures) // 2], quality, shrink)) * len(pictures) > most:
            continue
        made = [_webp(picture, quality, shrink) for picture in pictures]
        if sum(map(len, made)) <= most:
            return made, shrink
    return [_webp(picture, quality, shrink) for picture in pictures], shrink


def _tries(edge: int) -> Iterator[tuple[float, int]]:
    shrink = 1.0
    yield from ((shrink, quality) for quality in _QUALITIES)
    while edge * shrink * _SHRINK >= _LEAST_EDGE:
        shrink *= _SHRINK
        yield shrink, _QUALITIES[-2]


def _webp(grey: np.ndarray, quality: int, shrink: float) -> bytes:
    image = Image.fromarray(grey)
    if shrink < 1:
        image = image.resize((max(1, round(image.width * shrink)), max(1, round(image.height * shrink))), Image.Resampling.LANCZOS)
    content = io.BytesIO()
    image.save(content, "WEBP", quality=quality, method=4)
    return content.getvalue()
