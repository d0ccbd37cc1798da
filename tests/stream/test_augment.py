import itertools

import numpy as np
import pytest

from tomostream.errors import InputError
from tomostream.stream.augment import ORIENTATIONS, composed, inverse, orientations_of, oriented

CUBE = np.arange(27).reshape(3, 3, 3)


def test_there_are_48_different_orientations_and_the_first_is_the_identity():
    turned = {oriented(CUBE, o).tobytes() for o in range(ORIENTATIONS)}
    assert len(turned) == ORIENTATIONS == 48
    np.testing.assert_array_equal(oriented(CUBE, 0), CUBE)


def test_orientations_compose_as_their_numbers_do():
    for first, second in itertools.product(range(48), repeat=2):
        np.testing.assert_array_equal(oriented(oriented(CUBE, first), second), oriented(CUBE, composed(first, second)))


def test_every_orientation_has_its_inverse():
    for o in range(48):
        assert composed(o, inverse(o)) == composed(inverse(o), o) == 0
        np.testing.assert_array_equal(oriented(oriented(CUBE, o), inverse(o)), CUBE)


def test_half_of_the_orientations_are_the_rotations_that_numpy_generates():
    rotations = {CUBE.tobytes()}
    while True:
        more = {
            np.rot90(np.frombuffer(r, CUBE.dtype).reshape(3, 3, 3), axes=axes).tobytes() for r in rotations for axes in ((0, 1), (1, 2))
        } | rotations
        if more == rotations:
            break
        rotations = more
    assert len(rotations) == 24
    assert rotations < {oriented(CUBE, o).tobytes() for o in range(48)}


def test_leading_axes_stay_and_nothing_is_copied():
    volume = np.arange(2 * 27).reshape(2, 3, 3, 3)
    for o in range(48):
        turned = oriented(volume, o)
        assert np.shares_memory(turned, volume)
        np.testing.assert_array_equal(turned[1], oriented(volume[1], o))


@pytest.mark.parametrize(("crop", "count"), [((4, 4, 4), 48), ((2, 4, 4), 16), ((4, 2, 4), 16), ((4, 4, 2), 16), ((2, 3, 4), 8)])
def test_unequal_edges_keep_the_orientations_that_keep_the_shape(crop, count):
    offered = orientations_of("cube", crop)
    assert len(offered) == count
    assert all(oriented(np.empty(crop), o).shape == crop for o in offered)


def test_wedge_keeps_a_missing_wedge_about_either_tilt_axis_in_its_place():
    frequency = np.stack(np.meshgrid(*[np.arange(-3, 4)] * 3, indexing="ij"))
    offered = orientations_of("wedge", (7, 7, 7))
    assert len(offered) == 8
    for across in (1, 2):
        wedge = np.abs(frequency[0]) > 1.7 * np.abs(frequency[across])
        assert all((oriented(wedge, o) == wedge).all() for o in offered)
        assert not all((oriented(wedge, o) == wedge).all() for o in orientations_of("cube", (7, 7, 7)))


def test_no_symmetry_is_the_identity_alone():
    assert orientations_of("none", (4, 4, 4)) == (0,)


def test_unknown_symmetry_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match="'sphere' is unknown; choose one of cube, wedge, none"):
        orientations_of("sphere", (4, 4, 4))
