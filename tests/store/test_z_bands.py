import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomostream.geometry import BlockGrid
from tomostream.store.z_bands import plan_bands

edges = st.tuples(*[st.integers(1, 20)] * 3)
blocks = st.tuples(*[st.integers(2, 8)] * 3)


@settings(deadline=None)
@given(shape=edges, block=blocks, share=st.floats(0, 3))
def test_bands_hold_every_shard_once_and_fit(shape, block, share):
    shards = BlockGrid(shape, block)
    least = math.prod(shards.core((0, 0, 0)).shape)
    most = int(least + share * math.prod(shape))
    bands = plan_bands(shards, most_voxels=most)
    assert sorted(index for band in bands for index in band.shards) == sorted(shards.indices())
    for band in bands:
        assert band.box.size <= most
        assert sum(shards.core(index).size for index in band.shards) == band.box.size
        assert all(band.box.contains(shards.core(index)) for index in band.shards)


def test_band_takes_as_many_rows_of_shards_as_fit():
    shards = BlockGrid((16, 32, 40), (8, 8, 8))
    assert [band.box.shape for band in plan_bands(shards, most_voxels=8 * 24 * 40)] == [(8, 24, 40), (8, 8, 40)] * 2
    assert {band.box.shape for band in plan_bands(shards, most_voxels=8 * 8 * 39)} == {(8, 8, 32), (8, 8, 8)}
    assert {band.box.shape for band in plan_bands(shards, most_voxels=512)} == {(8, 8, 8)}


def test_less_than_a_shard_is_refused():
    with pytest.raises(ValueError, match="512 voxels"):
        plan_bands(BlockGrid((16, 16, 16), (8, 8, 8)), most_voxels=511)
