"""Scenes: no overlap, all inside, as many as asked for, or a clear refusal."""

import numpy as np
import pytest
from example_counts import examples
from hypothesis import given
from hypothesis import strategies as st

from tomostream.errors import InputError
from tomostream.simulation.scene import Scene, _rotations, build_scene
from tomostream.simulation.species import Species, decoy, gold, proteasome, ribosome

SIZE = (900.0, 1500.0, 1700.0)
COUNTS = ((ribosome(), 12), (proteasome(), 8), (decoy(), 8), (gold(), 2))


def scene(seed: int, *, counts: tuple[tuple[Species, int], ...] = COUNTS, vesicles: int = 1, crowd: int = 20) -> Scene:
    return build_scene(size_zyx=SIZE, counts=counts, vesicles=vesicles, crowd=crowd, rng=np.random.default_rng(seed))


def distances(positions: np.ndarray) -> np.ndarray:
    apart = np.abs(positions[:, None] - positions[None])
    for axis in (1, 2):
        apart[..., axis] = np.minimum(apart[..., axis], SIZE[axis] - apart[..., axis])
    return np.linalg.norm(apart, axis=2)


@examples(8)
@given(st.integers(0, 2**31))
def test_no_two_particles_are_nearer_than_their_contact_radii(seed):
    made = scene(seed)
    contact = {species.name: species.contact_ang for species, _ in COUNTS}
    listed = [i for i, name in enumerate(made.names) if name != "vesicle"]
    radius = np.array([contact[made.names[i]] for i in listed])
    gap = distances(made.position_zyx[listed]) - (radius[:, None] + radius[None])
    assert gap[~np.eye(len(listed), dtype=bool)].min() >= -1e-6


def test_all_asked_for_are_listed_and_lie_inside():
    made = scene(1)
    assert {name: made.names.count(name) for name in set(made.names)} == {
        "ribosome": 12,
        "proteasome": 8,
        "decoy": 8,
        "gold": 2,
        "vesicle": 1,
    }
    assert (made.position_zyx >= 60).all()
    assert (made.position_zyx <= np.array(SIZE) - 60).all()


def test_particles_are_whole_along_z():
    made = scene(2)
    assert made.beads.position_zyx[:, 0].min() >= 0
    assert made.beads.position_zyx[:, 0].max() <= SIZE[0]


def test_some_neighbours_touch():
    made = scene(3)
    main = made.position_zyx[[name == "ribosome" for name in made.names]]
    apart = distances(main) + 1e9 * np.eye(len(main))
    assert np.count_nonzero(apart.min(axis=1) <= 1.1 * 2 * ribosome().contact_ang) >= 4


def test_crowd_is_there_and_not_listed():
    with_crowd, without = scene(4, vesicles=0, crowd=50), scene(4, vesicles=0, crowd=0)
    assert len(with_crowd.beads) == len(without.beads) + 50
    assert with_crowd.names == without.names


def test_gold_is_kept_apart():
    assert len(scene(5).gold_beads) == 2


def test_rotations_are_proper_and_their_mean_vanishes():
    turns = _rotations(4000, np.random.default_rng(0))
    np.testing.assert_allclose(turns @ np.swapaxes(turns, 1, 2), np.broadcast_to(np.eye(3), turns.shape), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(turns), 1)
    np.testing.assert_allclose(turns.mean(axis=0), 0, atol=0.05)


def test_full_slab_is_refused_with_the_number_that_fitted():
    with pytest.raises(InputError, match=r"no room for 5000 ribosome particles, only for \d+"):
        build_scene(size_zyx=(500.0, 700.0, 700.0), counts=[(ribosome(), 5000)], vesicles=0, crowd=0, rng=np.random.default_rng(0))


def test_thin_slab_is_refused_with_the_thickness_that_is_needed():
    with pytest.raises(InputError, match=r"a ribosome needs a slab of more than \d+ A, this one has 200 A"):
        build_scene(size_zyx=(200.0, 1000.0, 1000.0), counts=[(ribosome(), 1)], vesicles=0, crowd=0, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="a vesicle needs a slab of at least 540 A, this one has 400 A"):
        build_scene(size_zyx=(400.0, 1000.0, 1000.0), counts=[], vesicles=1, crowd=0, rng=np.random.default_rng(0))
