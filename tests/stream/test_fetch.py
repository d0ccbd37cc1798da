import threading

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from stream_volumes import ArrayVolume

from tomostream.errors import InputError
from tomostream.geometry import BlockGrid, Box
from tomostream.stream import fetch
from tomostream.stream.fetch import RegionReader, pieces_to_read
from tomostream.stream.plan import draw_epoch, make_design
from tomostream.stream.schedule import part_of, plan_layout

SHAPES = [(40, 60, 50), (30, 30, 70)]
VOLUME_BYTES = 4 * sum(a * b * c for a, b, c in SHAPES)
CHUNK = (16, 16, 16)


def read_epoch(buffer_bytes: int, n_uniform: int, n_labelled: int, epochs: int = 1):
    """Stream epochs; returns the volumes, the reader's layout, and (crop, image) of all."""
    rng = np.random.default_rng(1)
    points = [[rng.random((4, 3)) * (np.array(shape) - 1)] for shape in SHAPES]
    design = make_design(
        shapes=SHAPES, points=points, radius=[2.0], crop=(8, 6, 8), n_uniform=n_uniform, n_labelled=n_labelled, orientations=(0,)
    )
    volumes = [ArrayVolume(shape, CHUNK) for shape in SHAPES]
    layout = plan_layout(design, [CHUNK] * 2, buffer_bytes=buffer_bytes)
    reader = RegionReader(volumes, layout)
    cut = []
    for epoch in range(epochs):
        for crops in draw_epoch(design, seed=0, epoch=epoch):
            own = part_of(layout, crops, [len(crops)], 0, seed=0, epoch=epoch)
            cut += [(crop, image.copy()) for crop, image in zip(own, reader.images(own), strict=True)]
    return volumes, layout, cut


@pytest.mark.parametrize("buffer_bytes", [30_000, 150_000, VOLUME_BYTES * 3 // 4, VOLUME_BYTES])
def test_cut_crops_are_the_volumes_own_voxels(buffer_bytes):
    _, layout, cut = read_epoch(buffer_bytes, 80, 40)
    assert len(cut) == 120
    for crop, image in cut:
        np.testing.assert_array_equal(image, ArrayVolume(SHAPES[crop.tomogram], CHUNK).voxels(layout.design.box(crop)))


def test_volumes_that_fit_are_read_once_for_all_epochs():
    volumes, layout, _ = read_epoch(VOLUME_BYTES, 50, 50, epochs=3)
    assert layout.keeps_volumes
    assert all((v.times_read() == 1).all() for v in volumes)


def test_surroundings_of_labels_are_read_once_for_all_epochs():
    volumes, layout, _ = read_epoch(VOLUME_BYTES * 3 // 4, 0, 50, epochs=3)
    assert layout.keeps_points
    assert not layout.keeps_volumes
    reaches = [np.zeros(shape, dtype=int) for shape in SHAPES]
    for point, tomogram in enumerate(layout.design.point_tomogram.tolist()):
        reaches[tomogram][layout.design.reach(point).slices] += 1
    for volume, times in zip(volumes, reaches, strict=True):
        np.testing.assert_array_equal(volume.times_read() > 0, times > 0)
        assert (volume.times_read() <= times).all()


def test_each_region_reads_the_chunks_that_its_crops_touch_once_and_no_others():
    volumes, layout, cut = read_epoch(150_000, 60, 0)
    regions: dict = {}
    for crop, _ in cut:
        regions.setdefault(layout.region(crop), []).append(layout.design.box(crop))
    expected = [np.zeros(shape, dtype=int) for shape in SHAPES]
    for region, boxes in regions.items():
        grid = BlockGrid(SHAPES[region.tomogram], CHUNK)
        for index in {i for box in boxes for i in grid.touching(box)}:
            expected[region.tomogram][grid.core(index).clipped(region.box).slices] += 1
    for volume, times in zip(volumes, expected, strict=True):
        np.testing.assert_array_equal(volume.times_read(), times)


def test_many_crops_read_each_byte_little_more_than_once():
    shape, chunk, n = (20, 200, 200), (8, 8, 8), 3000
    design = make_design(
        shapes=[shape], points=[[np.empty((0, 3))]], radius=[1.0], crop=(8, 8, 8), n_uniform=n, n_labelled=0, orientations=(0,)
    )
    layout = plan_layout(design, [chunk], buffer_bytes=4 * 20 * 200 * 200 // 2)
    assert not layout.keeps_volumes
    volume = ArrayVolume(shape, chunk)
    crops = part_of(layout, draw_epoch(design, seed=0, epoch=0)[1], [n], 0, seed=0, epoch=0)
    assert sum(1 for _ in RegionReader([volume], layout).images(crops)) == n
    assert 0.95 <= volume.times_read().mean() <= 1.2


@examples(40)
@given(
    st.lists(st.tuples(*[st.integers(0, 30)] * 3), min_size=1, max_size=12),
    st.tuples(*[st.integers(1, 9)] * 3),
    st.sampled_from([256, 4096, 2**24]),
)
def test_pieces_hold_each_touched_chunk_once(starts, chunk, piece_bytes):
    shape = (37, 38, 39)
    boxes = [Box(a, (a[0] + 5, a[1] + 6, a[2] + 7)) for a in starts]
    original, fetch.PIECE_BYTES = fetch.PIECE_BYTES, piece_bytes
    try:
        pieces = pieces_to_read(boxes, shape=shape, chunk=chunk)
    finally:
        fetch.PIECE_BYTES = original
    grid = BlockGrid(shape, chunk)
    expected, found = np.zeros(shape, int), np.zeros(shape, int)
    for index in {i for box in boxes for i in grid.touching(box)}:
        expected[grid.core(index).slices] = 1
    for piece in pieces:
        found[piece.slices] += 1
        assert piece.size * 4 <= max(piece_bytes, 4 * np.prod(chunk))
    np.testing.assert_array_equal(found, expected)


def test_a_whole_volume_is_one_piece_if_it_is_small():
    assert pieces_to_read([Box.whole((40, 40, 40))], shape=(40, 40, 40), chunk=CHUNK) == [Box.whole((40, 40, 40))]


class BrokenVolume(ArrayVolume):
    def read_standardised(self, box: Box, *, out: np.ndarray) -> np.ndarray:
        raise InputError("chunk is damaged")


@pytest.mark.parametrize("buffer_bytes", [30_000, VOLUME_BYTES])
def test_an_error_while_reading_reaches_the_reader_and_no_thread_stays(buffer_bytes):
    design = make_design(
        shapes=[SHAPES[0]], points=[[np.empty((0, 3))]], radius=[1.0], crop=(8, 8, 8), n_uniform=9, n_labelled=0, orientations=(0,)
    )
    layout = plan_layout(design, [CHUNK], buffer_bytes=buffer_bytes)
    _, crops = draw_epoch(design, seed=0, epoch=0)
    with pytest.raises(InputError, match="chunk is damaged"):
        list(RegionReader([BrokenVolume(SHAPES[0], CHUNK)], layout).images(crops))
    assert not [t for t in threading.enumerate() if t.name.startswith("tomostream-read")]


def test_closing_early_ends_the_reading_thread():
    design = make_design(
        shapes=[SHAPES[0]], points=[[np.empty((0, 3))]], radius=[1.0], crop=(8, 8, 8), n_uniform=50, n_labelled=0, orientations=(0,)
    )
    layout = plan_layout(design, [CHUNK], buffer_bytes=60_000)
    _, crops = draw_epoch(design, seed=0, epoch=0)
    images = RegionReader([ArrayVolume(SHAPES[0], CHUNK)], layout).images(part_of(layout, crops, [50], 0, seed=0, epoch=0))
    next(images)
    images.close()
    assert not [t for t in threading.enumerate() if t.name.startswith("tomostream-read")]
