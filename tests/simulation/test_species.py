"""Bodies: centred on their mass, of the size that they claim."""

import numpy as np
import pytest

from tomostream.simulation.species import Beads, decoy, gold, proteasome, ribosome, small_protein, vesicle

SPECIES = [ribosome(), proteasome(), decoy(), gold()]
BODIES = [body for species in SPECIES for body in species.bodies]


@pytest.mark.parametrize("species", SPECIES, ids=lambda s: s.name)
def test_centre_of_mass_is_the_origin(species):
    for body in species.bodies:
        np.testing.assert_allclose((body.mass[:, None] * body.position_zyx).sum(axis=0) / body.mass.sum(), 0, atol=1e-9)


def test_centre_of_mass_is_where_a_turned_particle_is_placed():
    rotation = np.array([[0.0, 0.6, -0.8], [1.0, 0.0, 0.0], [0.0, -0.8, -0.6]])
    placed = ribosome().bodies[0].placed(rotation, np.array([100.0, -20.0, 7.0]))
    np.testing.assert_allclose((placed.mass[:, None] * placed.position_zyx).sum(axis=0) / placed.mass.sum(), [100, -20, 7], atol=1e-9)


def test_ribosome_is_asymmetric_and_about_260_angstrom_long():
    body = ribosome().bodies[0]
    distances = np.linalg.norm(body.position_zyx[:, None] - body.position_zyx[None], axis=2)
    assert 200 <= distances.max() <= 300
    share = (body.mass / body.mass.sum())[:, None]
    skewness = (share * body.position_zyx**3).sum(axis=0) / (share * body.position_zyx**2).sum(axis=0) ** 1.5
    assert np.abs(skewness).max() > 0.2


def test_proteasome_is_hollow_along_its_axis():
    body = proteasome().bodies[0]
    assert np.hypot(body.position_zyx[:, 1], body.position_zyx[:, 2]).min() > 2 * body.sigma.max()


def test_decoys_are_smaller_and_lighter_than_the_ribosome():
    main = ribosome().bodies[0]
    for body in decoy().bodies:
        assert body.mass.sum() < 0.75 * main.mass.sum()


def test_vesicle_has_equal_mass_all_over_its_sphere():
    membrane = vesicle(300.0)
    np.testing.assert_allclose(np.linalg.norm(membrane.position_zyx, axis=1), 300)
    np.testing.assert_allclose(membrane.position_zyx.mean(axis=0), 0, atol=1.0)
    assert membrane.mass.sum() == pytest.approx(4 * np.pi * 300**2 * 40)


def test_small_protein_is_as_dense_as_protein_at_its_peak():
    bead = small_protein(20.0)
    assert bead.mass[0] / ((2 * np.pi) ** 1.5 * bead.sigma[0] ** 3) == pytest.approx(1.0)


def test_voxel_units_keep_density():
    bead = small_protein(20.0).placed(np.eye(3), np.array([5.0, 25.0, 100.0])).in_voxels(10.0)
    assert bead.sigma[0] == 2.0
    assert bead.position_zyx.tolist() == [[0.0, 2.0, 9.5]]
    assert bead.mass[0] / ((2 * np.pi) ** 1.5 * bead.sigma[0] ** 3) == pytest.approx(1.0)


def test_joining_nothing_gives_no_beads():
    assert len(Beads.join([])) == 0
    assert len(Beads.join([BODIES[0], BODIES[1]])) == len(BODIES[0]) + len(BODIES[1])
