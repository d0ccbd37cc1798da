"""Pictures are what numpy makes of the whole volume; the cache stays within its bounds."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import zarr
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st
from running_view import environment
from scipy.ndimage import gaussian_filter

import tomostream as ts
from tomostream.errors import BudgetError, InputError
from tomostream.grey_pictures import SPREAD, grey_values
from tomostream.tomogram import Tomogram
from tomostream.view.cache import ArrayCache
from tomostream.view.volumes import Cut, Pictures, cache_bytes, thumbnail

pytestmark = pytest.mark.slow

SHAPE = (70, 130, 600)


@pytest.fixture(scope="module", params=["keep-none", "keep-zstd", "foreign"])
def volume(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tomogram, np.ndarray]:
    """A store of ours, plain and compressed, and another software's; and the voxels of its level 0."""
    from ball_tomograms import write_mrc

    rng = np.random.default_rng(0)
    voxels = rng.normal(size=SHAPE).astype(np.float32)
    folder = tmp_path_factory.mktemp("volume")
    write_mrc(folder / "a.mrc", voxels)
    codec = "zstd" if request.param == "keep-zstd" else "none"
    from tomostream.store.shard_file import Codec  # noqa: F401 (the type that --codec becomes)

    subprocess.run(
        [sys.executable, "-m", "tomostream", "convert", str(folder / "a.mrc"), "-o", str(folder), "--codec", codec, "--chunk", "32", "--shard", "64"],
        check=True, capture_output=True, env=environment(),
    )  # fmt: skip
    path = folder / "a.ome.zarr"
    if request.param == "foreign":
        group = zarr.open_group(path, mode="r+")
        del group.attrs["tomostream"]
    tomogram = ts.open(path)
    assert bool(tomogram.attributes) == (request.param != "foreign")
    return tomogram, voxels


def level_voxels(tomogram: Tomogram, level: int) -> np.ndarray:
    return np.asarray(tomogram.at_level(level).array.compute(scheduler="sync")).astype(np.float64)


spans = st.tuples(st.integers(0, 1000), st.integers(0, 1000))


@examples(40)
@given(axis=st.sampled_from("zyx"), level=st.integers(0, 1), planes=spans, rows=spans, columns=spans)
def test_pictures_equal_numpys_means_of_the_whole_volume(volume, axis, level, planes, rows, columns):
    tomogram, _ = volume
    whole = level_voxels(tomogram, level)
    moved = {"z": whole, "y": whole.transpose(1, 0, 2), "x": whole.transpose(2, 1, 0)}[axis]  # planes, rows, columns

    def span(given: tuple[int, int], size: int, most: int) -> tuple[int, int]:
        first = given[0] % size
        return first, min(size, first + 1 + given[1] % most)

    cut = Cut(axis, level, span(planes, moved.shape[0], 40), span(rows, moved.shape[1], 512), span(columns, moved.shape[2], 512))
    expected = moved[slice(*cut.planes), slice(*cut.rows), slice(*cut.columns)].mean(axis=0)
    pictures = Pictures(800_000_000)
    np.testing.assert_allclose(pictures.mean(tomogram, cut), expected, atol=2e-5)
    mean, std = pictures.scale(tomogram, cut)
    grey = pictures.grey(tomogram, cut)
    assert grey.dtype == np.uint8
    restored = (grey.astype(np.float64) - 128) / 127 * SPREAD * std + mean
    is_within = np.abs(expected - mean) < SPREAD * std * 0.99
    assert np.abs(restored - expected)[is_within].max(initial=0) <= SPREAD * std / 127
    assert pictures.grey(tomogram, cut) is grey  # kept


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_smoothed_tiles_fit_together_without_a_seam(volume, axis):
    tomogram, voxels = volume
    moved = {"z": voxels, "y": voxels.transpose(1, 0, 2), "x": voxels.transpose(2, 1, 0)}[axis]
    pictures = Pictures(800_000_000)
    middle = moved.shape[2] // 2
    halves = [
        pictures.mean(tomogram, Cut(axis, 0, (10, 15), (0, moved.shape[1]), columns, 2.0))
        for columns in ((0, middle), (middle, min(moved.shape[2], middle + 500)))
    ]
    joined = np.concatenate(halves, axis=1)
    expected = gaussian_filter(moved[10:15].mean(axis=0, dtype=np.float64), 2.0, truncate=3.0)[:, : joined.shape[1]]
    far = 7 if joined.shape[1] < moved.shape[2] else 0  # scipy mirrors at the volume's faces, as we do
    np.testing.assert_allclose(joined[:, : joined.shape[1] - far], expected[:, : joined.shape[1] - far], atol=1e-4)


def test_unknown_voxels_are_grey_zero_and_nothing_else_is():
    values = np.array([[np.nan, 0.0, -1e9, 1e9, np.inf]])
    np.testing.assert_array_equal(grey_values(values, 0.0, 1.0), [[0, 128, 1, 255, 0]])


@pytest.mark.parametrize(
    "cut",
    [
        Cut("z", 0, (0, 71), (0, 10), (0, 10)), Cut("z", 0, (5, 5), (0, 10), (0, 10)), Cut("z", 0, (-1, 1), (0, 10), (0, 10)),
        Cut("z", 9, (0, 1), (0, 10), (0, 10)), Cut("z", 0, (0, 1), (0, 10), (0, 513)), Cut("z", 0, (0, 1), (0, 10), (0, 10), 99.0),
        Cut("z", 0, (0, 1), (0, 10), (0, 10), float("nan")),
    ],
)  # fmt: skip
def test_what_is_no_part_of_the_volume_is_refused(volume, cut):
    with pytest.raises(InputError):
        Pictures(800_000_000).grey(volume[0], cut)


def test_thumbnail_at_a_corner_has_zeros_beyond_the_volume(volume):
    tomogram, _ = volume
    made = thumbnail(Pictures(800_000_000), tomogram, (0, 0, 0), "z", level=0, size=20, planes=5, sigma=0.0)
    assert (made[:10] == 0).all()
    assert (made[:, :10] == 0).all()
    assert (made[10:, 10:] > 0).all()
    assert not thumbnail(Pictures(800_000_000), tomogram, (10**6, 0, 0), "z", level=0, size=20, planes=5, sigma=0.0).any()


@examples(60)
@given(asked=st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3000)), max_size=60), limit=st.integers(0, 20_000))
def test_cache_returns_what_was_made_and_stays_within_its_limit(asked, limit):
    cache = ArrayCache(limit)
    sizes: dict[int, int] = {}
    for key, proposed in asked:
        size = sizes.setdefault(key, proposed)
        found = cache.get(key, lambda key=key, size=size: np.full(size, key, dtype=np.uint8))
        assert found.shape == (size,)
        assert (found == key).all()
        assert cache.nbytes <= limit


def test_what_several_threads_ask_for_at_once_is_made_once():
    cache = ArrayCache(10**6)
    made: list[int] = []
    gate = threading.Event()

    def make() -> np.ndarray:
        gate.wait(5)
        made.append(1)
        return np.zeros(10)

    threads = [threading.Thread(target=cache.get, args=("a", make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    gate.set()
    for thread in threads:
        thread.join()
    assert made == [1]


def test_a_failure_is_told_to_all_and_tried_again():
    cache = ArrayCache(10**6)

    def fail() -> np.ndarray:
        raise InputError("gone")

    with pytest.raises(InputError, match="gone"):
        cache.get("a", fail)
    assert cache.get("a", lambda: np.ones(1)).sum() == 1


def test_a_budget_that_is_too_small_is_refused_with_the_number():
    with pytest.raises(BudgetError, match=r"view needs \d+ MB but the memory budget is 200 MB"):
        cache_bytes(200_000_000)
    assert cache_bytes(2_000_000_000) < 2_000_000_000
