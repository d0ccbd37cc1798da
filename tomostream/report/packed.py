"""How do arrays and pictures travel in a page?  As base64 of little-endian numbers; positions as shares of the volume, in 16 bits.

A position is off by at most 1/131070 of the volume's edge: 0.03 voxels of 4000.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from tomostream.geometry import Triple

_STEPS = 65535
_QUALITIES = (60, 45, 32, 22)  # of WebP; below that noise turns into blocks
_SHRINK = 0.8  # of the edges, where the lowest quality is still too large
_LEAST_EDGE = 96  # pixels


def base64_of(content: bytes) -> str:
    """Text that the page turns back into bytes."""
    return base64.b64encode(content).decode("ascii")


def packed(values: np.ndarray, kind: str) -> str:
    """Numbers of a numpy type such as `<f4`."""
    return base64_of(np.ascontiguousarray(values, dtype=kind).tobytes())


def packed_positions(zyx: np.ndarray, shape: Triple) -> str:
    """Positions (n, 3), level-0 voxels, as shares of the volume: x y z of each, unsigned 16 bits; what lies outside goes to the border."""
    shares = (zyx + 0.5) / np.asarray(shape, dtype=np.float64)
    return packed(np.rint(np.clip(shares, 0, 1) * _STEPS)[:, ::-1], "<u2")


def webp_within(pictures: list[np.ndarray], most: int) -> tuple[list[bytes], float]:
    """Compress grey pictures of one size so that all together have at most so many bytes; returns them, and by what they were shrunk (<= 1).

    The best quality that fits is taken, judged by the middle one; else they are shrunk.  The smallest that is made has `_LEAST_EDGE` pixels, however
    few bytes are allowed.
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
