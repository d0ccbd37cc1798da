import itertools
from collections import Counter

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import BudgetError
from tomostream.geometry import Box
from tomostream.stream.plan import Design, draw_epoch, make_design
from tomostream.stream.schedule import Division, Layout, in_drawing_order, part_of, plan_layout

SHAPES = [(40, 60, 50), (30, 30, 70)]
VOLUME_BYTES = 4 * sum(a * b * c for a, b, c in SHAPES)


def a_design(n_uniform: int, n_labelled: int, crop=(8, 8, 8), points: int = 12) -> Design:
    rng = np.random.default_rng(1)
    positions = [[rng.random((points // 2, 3)) * (np.array(shape) - 1)] for shape in SHAPES]
    return make_design(
        shapes=SHAPES, points=positions, radius=[2.0], crop=crop, n_uniform=n_uniform, n_labelled=n_labelled, orientations=tuple(range(48))
    )


def layouts(n_uniform: int, n_labelled: int) -> dict[str, Layout]:
    design = a_design(n_uniform, n_labelled)
    return {
        "all kept": plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=VOLUME_BYTES),
        "points kept": plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=VOLUME_BYTES * 3 // 4),
        "nothing kept": plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=150_000),
    }


@examples(60)
@given(
    st.integers(1, 5),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from(["all kept", "points kept", "nothing kept"]),
)
def test_parts_are_disjoint_complete_and_of_exactly_their_share(batch, batches, fraction, world, workers, which):
    division = Division(batch, batches, fraction, world, workers)
    n_labelled, n_uniform = division.totals
    assert n_labelled + n_uniform == batch * batches * world
    layout = layouts(n_uniform, n_labelled)[which]
    for is_labelled, crops in zip((True, False), draw_epoch(layout.design, seed=1, epoch=2), strict=True):
        sizes = division.sizes(is_labelled=is_labelled)
        assert len(sizes) == world * workers
        parts = [part_of(layout, crops, sizes, i, seed=1, epoch=2) for i in range(len(sizes))]
        assert [len(p) for p in parts] == sizes
        assert Counter(itertools.chain(*parts)) == Counter(crops)


@given(st.integers(1, 9), st.integers(1, 30), st.floats(0, 1), st.integers(1, 4))
def test_every_batch_has_the_wanted_mixture_to_within_one_crop(batch, batches, fraction, workers):
    division = Division(batch, batches, fraction, 1, workers)
    labelled = [division.labelled_in(i) for i in range(batches)]
    assert all(0 <= n <= batch and abs(n - batch * fraction) < 1 + 1e-9 for n in labelled)
    assert abs(sum(labelled) - batch * batches * fraction) <= 0.5 + 1e-9
    assert sorted(i for w in range(workers) for i in division.batches_of(w)) == list(range(batches))


@pytest.mark.parametrize("which", ["all kept", "points kept", "nothing kept"])
def test_every_crop_lies_in_its_region_and_its_region_in_the_volume(which):
    layout = layouts(300, 300)[which]
    for crop in itertools.chain(*draw_epoch(layout.design, seed=0, epoch=0)):
        region = layout.region(crop)
        assert region.tomogram == crop.tomogram
        assert region.box.contains(layout.design.box(crop))
        assert Box.whole(SHAPES[crop.tomogram]).contains(region.box)


def test_what_is_kept_follows_from_the_buffer():
    found = layouts(100, 100)
    assert (found["all kept"].keeps_volumes, found["points kept"].keeps_points, found["nothing kept"].keeps_points) == (True, True, False)
    assert not found["points kept"].keeps_volumes
    assert not found["nothing kept"].keeps_volumes


@examples(30)
@given(st.integers(60_000, VOLUME_BYTES - 1), st.integers(1, 200), st.integers(0, 200), st.integers(0, 9))
def test_regions_in_use_never_exceed_the_buffer_and_each_opens_once(buffer_bytes, n_uniform, n_labelled, seed):
    design = a_design(n_uniform, n_labelled)
    layout = plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=buffer_bytes)
    assert layout.point_bytes + layout.block_bytes <= buffer_bytes
    for is_labelled, crops in zip((True, False), draw_epoch(design, seed=seed, epoch=0), strict=True):
        ordered = in_drawing_order(layout, crops, rng=np.random.default_rng(seed))
        regions = [layout.region(c) for c in ordered]
        last = {region: i for i, region in enumerate(regions)}
        first = {region: i for i, region in reversed(list(enumerate(regions)))}
        in_use = [sum(r.nbytes for r in first if first[r] <= i <= last[r]) for i in range(len(regions))]
        assert max(in_use, default=0) <= (layout.point_bytes if is_labelled else layout.block_bytes)


def test_crops_of_several_open_regions_are_mixed():
    design = a_design(400, 0)
    layout = plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=VOLUME_BYTES // 2)
    _, uniform = draw_epoch(design, seed=0, epoch=0)
    regions = [layout.region(c) for c in part_of(layout, uniform, [400], 0, seed=0, epoch=0)]
    changes = sum(a != b for a, b in itertools.pairwise(regions))
    assert changes > 4 * len(set(regions))


def test_the_block_reads_least_among_all_that_fit():
    design = a_design(10, 0)
    layout = plan_layout(design, [(16, 16, 16)] * 2, buffer_bytes=300_000)
    for shape, block in zip(SHAPES, layout.blocks, strict=True):

        def cost(edges, shape=shape):
            """Voxels read in whole chunks, and bytes of the largest region."""
            voxels, largest = 1, 4.0
            for n, b in zip(shape, edges, strict=True):
                starts = range(0, n - 8 + 1, b)
                stops = [min(a + b + 7, n) for a in starts]
                voxels *= sum(min(-(-z // 16) * 16, n) - a // 16 * 16 for a, z in zip(starts, stops, strict=True))
                largest *= max(z - a for a, z in zip(starts, stops, strict=True))
            return voxels, largest

        assert cost(block)[1] <= 100_000
        choices = itertools.product(*[[*range(16, n + 16, 16)] for n in shape])
        assert cost(block)[0] <= min(voxels for voxels, largest in map(cost, choices) if largest <= 100_000)


def test_a_buffer_below_the_smallest_region_is_refused_with_both_sizes():
    with pytest.raises(BudgetError, match=r"smallest part .* takes 13.5 KB, but the buffer has 12 KB"):
        plan_layout(a_design(10, 0), [(16, 16, 16)] * 2, buffer_bytes=12_000)
    with pytest.raises(BudgetError, match=r"around one label .* but the buffer has 2.5 KB"):
        plan_layout(a_design(10, 10), [(16, 16, 16)] * 2, buffer_bytes=10_000)
