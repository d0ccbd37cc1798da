import itertools
import pickle

import numpy as np
import pytest
import torch
from stream_volumes import ArrayVolume
from torch.utils.data import DataLoader

from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box
from tomostream.learn.batch import Batch, CorrectedBatch
from tomostream.masks import mask_of_box
from tomostream.stream.dataset import SubtomogramDataset
from tomostream.stream.plan import Rejected

SHAPES = [(24, 40, 36), (30, 20, 44)]
RADIUS = [2.0, 3.0]
WHOLE = 4 * sum(a * b * c for a, b, c in SHAPES)
PART = WHOLE // 2  # of which not all volumes can be kept


def some_points() -> list[list[np.ndarray]]:
    rng = np.random.default_rng(4)
    return [[rng.random((n, 3)) * (np.array(shape) - 1) for n in (5, 2)] for shape in SHAPES]


def dataset(**changes) -> SubtomogramDataset:
    settings = {
        "tomograms": [ArrayVolume(shape, (8, 8, 8)) for shape in SHAPES],
        "points": some_points(),
        "radius": RADIUS,
        "buffer_bytes": WHOLE,
        "label_shape": "sphere",
        "crop": 8,
        "stride": 4,
        "batch": 4,
        "batches_per_epoch": 5,
        "labelled_fraction": 0.5,
        "seed": 3,
        "symmetry": "cube",
    }
    return SubtomogramDataset(**{**settings, **changes})


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        assert all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def voxels_of(image: torch.Tensor, tomogram: int) -> np.ndarray:
    """The indices z y x of an image's voxels: `ArrayVolume` holds each voxel's linear index."""
    return np.stack(np.unravel_index(image[0].numpy().astype(int), SHAPES[tomogram]))


@pytest.mark.parametrize("buffer_bytes", [WHOLE, PART])
def test_a_batch_has_the_promised_shapes_types_and_mixture(buffer_bytes):
    batches = list(dataset(buffer_bytes=buffer_bytes))
    assert len(batches) == len(dataset()) == 5
    for batch in batches:
        assert isinstance(batch, Batch)
        assert (batch.image.shape, batch.image.dtype) == ((4, 1, 8, 8, 8), torch.float32)
        assert (batch.positive.shape, batch.positive.dtype) == ((4, 2, 8, 8, 8), torch.bool)
        assert (batch.weight.shape, batch.weight.dtype) == ((4, 1, 8, 8, 8), torch.float32)
        assert batch.is_labelled.tolist() == [True, True, False, False]
        assert (batch.weight > 0).all()
        assert batch.positive[:2].any(dim=(1, 2, 3, 4)).all()


@pytest.mark.parametrize("buffer_bytes", [WHOLE, PART])
def test_turned_image_labels_and_weights_stay_aligned(buffer_bytes):
    # a single tomogram, so that a voxel's value tells where it is
    points = [some_points()[0]]
    of_one = {"tomograms": [ArrayVolume(SHAPES[0], (8, 8, 8))], "points": points, "buffer_bytes": min(buffer_bytes, 100_000)}
    masks = [
        mask_of_box(Box.whole(SHAPES[0]), p, radius=r, shape="sphere", volume=SHAPES[0]).astype(bool)
        for p, r in zip(points[0], RADIUS, strict=True)
    ]
    weight_at: dict[tuple, float] = {}
    turned = 0
    for batch in itertools.chain(dataset(**of_one), dataset(**of_one, epoch=1)):
        for image, positive, weight in zip(batch.image, batch.positive, batch.weight, strict=True):
            voxels = voxels_of(image, 0)
            turned += (np.diff(voxels[0], axis=0) != 1).any()
            for s, mask in enumerate(masks):
                np.testing.assert_array_equal(positive[s].numpy(), mask[tuple(voxels)])
            for where, value in zip(voxels.reshape(3, -1).T.tolist(), weight[0].numpy().ravel().tolist(), strict=True):
                # the weight belongs to the voxel, whichever crop shows it
                assert value == pytest.approx(weight_at.setdefault(tuple(where), value), rel=1e-5)
    assert turned > 20


@pytest.mark.parametrize("buffer_bytes", [WHOLE, PART])
def test_known_negatives_are_the_balls_around_rejected_places_without_the_labels(buffer_bytes):
    of_one = {"tomograms": [ArrayVolume(SHAPES[0], (8, 8, 8))], "points": [some_points()[0]], "buffer_bytes": min(buffer_bytes, 100_000)}
    places = [np.array([[12.0, 20, 18], [3, 5, 30]]), some_points()[0][1] + 1]  # those of the second species overlap its labels
    around = [1.5, 3.0]
    masks = [mask_of_box(Box.whole(SHAPES[0]), p, radius=r, shape="sphere", volume=SHAPES[0]) for p, r in zip(places, around, strict=True)]
    shown = [0, 0]
    for batch in dataset(**of_one, rejected=Rejected([places], around, 0.5), batches_per_epoch=10, labelled_fraction=0.75):
        assert isinstance(batch, CorrectedBatch)
        assert not (batch.negative & batch.positive).any()
        assert batch.is_labelled.tolist() == [True, True, True, False]
        for image, positive, negative in zip(batch.image, batch.positive, batch.negative, strict=True):
            voxels = voxels_of(image, 0)
            for s, mask in enumerate(masks):
                np.testing.assert_array_equal(negative[s].numpy(), mask[tuple(voxels)].astype(bool) & ~positive[s].numpy())
                shown[s] += bool(negative[s].any())
    assert min(shown) >= 5


def test_rejected_places_without_a_share_change_no_crop():
    places = [[p + 1 for p in of_one] for of_one in some_points()]
    for plain, corrected in zip(dataset(), dataset(rejected=Rejected(places, RADIUS, 0.0)), strict=True):
        assert torch.equal(plain.image, corrected.image)
        assert torch.equal(plain.weight, corrected.weight)
        assert not isinstance(plain, CorrectedBatch)


@pytest.mark.parametrize("buffer_bytes", [WHOLE, PART])
def test_the_same_seed_and_epoch_give_the_same_stream(buffer_bytes):
    data = dataset(buffer_bytes=buffer_bytes)
    first = list(data)
    assert_same(first, list(data))
    assert_same(first, list(dataset(buffer_bytes=buffer_bytes)))
    data.set_epoch(1)
    second = list(data)
    assert not all(torch.equal(a.image, b.image) for a, b in zip(first, second, strict=True))
    assert_same(second, list(dataset(buffer_bytes=buffer_bytes, epoch=1)))
    assert not torch.equal(first[0].image, next(iter(dataset(seed=4))).image)


def test_no_global_random_state_is_touched():
    torch.manual_seed(1)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002 (the global state is what is tested)
    first = list(dataset())
    torch.manual_seed(2)
    np.random.seed(2)  # noqa: NPY002 (as above)
    assert_same(first, list(dataset()))
    torch.manual_seed(1)
    list(dataset())
    assert torch.equal(torch.get_rng_state(), before[0])


def test_leaving_early_and_starting_anew_gives_the_same_stream():
    data = dataset(buffer_bytes=PART)
    iterator = iter(data)
    first = next(iterator)
    iterator.close()
    assert_same([first], [next(iter(data))])


def test_ranks_together_show_each_planned_crop_once():
    def corners(batches) -> list[tuple]:
        return sorted((float(i.min()), float(i.max()), bool(lab)) for b in batches for i, lab in zip(b.image, b.is_labelled, strict=True))

    ranks = [list(dataset(rank=r, world=2, buffer_bytes=PART)) for r in range(2)]
    assert [len(r) for r in ranks] == [5, 5]
    whole = list(dataset(batches_per_epoch=10, buffer_bytes=PART))
    assert corners(itertools.chain(*ranks)) == corners(whole)


@pytest.mark.slow
def test_spawned_workers_make_the_epoch_once_and_follow_set_epoch():
    data = dataset(buffer_bytes=PART)
    list(data)  # what this process holds must not be sent
    loader = DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="spawn", persistent_workers=True)
    epochs = []
    for epoch in (0, 1, 0):
        data.set_epoch(epoch)
        epochs.append(list(loader))
    assert [len(e) for e in epochs] == [5, 5, 5]
    assert_same(epochs[0], epochs[2])
    for epoch, found in enumerate(epochs[:2]):
        data.set_epoch(epoch)
        alone = list(data)
        extremes = [sorted((float(i.min()), float(i.max())) for b in batches for i in b.image) for batches in (found, alone)]
        assert extremes[0] == extremes[1]
        assert [b.is_labelled.sum() for b in found] == [b.is_labelled.sum() for b in alone]
    del loader


def test_a_pickled_data_set_leaves_its_voxels_behind_and_streams_the_same():
    data = dataset()
    fresh = len(pickle.dumps(data))
    first = list(data)
    for tomogram in data._tomograms:
        tomogram.reads.clear()
    sent = pickle.dumps(data)
    assert len(sent) == fresh < 20_000
    assert_same(first, list(pickle.loads(sent)))


def test_volumes_that_fit_are_read_once_for_everything():
    data = dataset()
    for epoch in range(3):
        data.set_epoch(epoch)
        list(data)
    list(data.uniform_images(20, seed=0))
    assert all((t.times_read() == 1).all() for t in data._tomograms)


@pytest.mark.parametrize("buffer_bytes", [WHOLE, PART])
def test_uniform_images_are_whole_crops_as_they_lie_in_the_volume(buffer_bytes):
    batches = list(dataset(buffer_bytes=buffer_bytes).uniform_images(10, seed=1))
    assert [tuple(b.shape) for b in batches] == [(4, 1, 8, 8, 8), (4, 1, 8, 8, 8), (2, 1, 8, 8, 8)]
    for image in torch.cat(batches):
        assert (torch.diff(image[0], dim=2) == 1).all()
    again = dataset(buffer_bytes=buffer_bytes).uniform_images(10, seed=1)
    assert all(torch.equal(a, b) for a, b in zip(batches, again, strict=True))


def test_a_volume_thinner_than_the_crop_gives_a_thinner_crop():
    data = dataset(crop=(28, 32, 16), symmetry="cube")
    assert data.crop == (24, 20, 16)
    assert next(iter(data)).image.shape == (4, 1, 24, 20, 16)


def test_without_labelled_crops_no_point_is_needed_and_weights_average_one():
    nothing = [[np.empty((0, 3))] * 2] * 2
    data = dataset(points=nothing, labelled_fraction=0.0, batches_per_epoch=60)
    batches = list(data)
    assert not any(b.is_labelled.any() or b.positive.any() for b in batches)
    assert torch.stack([b.weight.mean() for b in batches]).mean() == pytest.approx(1, abs=0.1)


def test_projected_bytes_hold_the_buffer_and_the_batches():
    data = dataset(buffer_bytes=PART)
    assert data.projected_bytes >= data._layout.point_bytes + data._layout.block_bytes + 3 * 4 * 8**3 * 10


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"points": [[np.empty((0, 3))] * 2] * 2}, "there is no labelled point"),
        ({"points": some_points()[:1]}, "each of the 2 tomograms.*found 1"),
        ({"points": [p[:1] for p in some_points()]}, "tomogram 0 must be one array for each of the 2 species, found 1"),
        ({"points": [[np.zeros((3, 2))] * 2] * 2}, r"shape \(n, 3\).*found shape \(3, 2\)"),
        ({"points": [[np.full((1, 3), np.nan)] * 2] * 2}, "not finite"),
        ({"tomograms": []}, "found 0 tomograms"),
        ({"radius": [2.0, -1.0]}, "radius must be above zero"),
        ({"label_shape": "disc"}, "'disc' is unknown"),
        ({"symmetry": "disc"}, "'disc' is unknown"),
        ({"crop": 10}, "multiples of the network's stride, 4"),
        ({"crop": (8, 8)}, "crop"),
        ({"batch": 0}, "batch must be an integer of at least 1, found 0"),
        ({"seed": -1}, "seed must be an integer of at least 0, found -1"),
        ({"epoch": -1}, "epoch must be an integer of at least 0, found -1"),
        ({"labelled_fraction": 1.5}, "between 0 and 1, found 1.5"),
        ({"rank": 2, "world": 2}, "rank 2 and world 2"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_read(changes, text):
    with pytest.raises(InputError, match=text):
        dataset(**changes)


def test_a_buffer_that_no_block_fits_is_refused():
    with pytest.raises(BudgetError, match="raise the memory budget"):
        dataset(buffer_bytes=4_000)
