"""35 correlations stand for those with a density in all orientations."""

import json

import numpy as np
import pytest
from density_files import density_file
from hypothesis import given
from hypothesis import strategies as st
from model_records import rewrite_record
from scipy.spatial.transform import Rotation
from small_project import make_project

import tomostream as ts
from tomostream.config import load_configuration
from tomostream.errors import ConfigurationError, InputError
from tomostream.strategies.matched_filter.density import FINER, RotatedKernels, Wedge
from tomostream.strategies.matched_filter.kernels import rotated_kernels
from tomostream.strategies.matched_filter.rotations import rotation_set
from tomostream.strategies.matched_filter.tensorial import COEFFICIENTS, monomials, tensor_kernels

SUPPORT, HALF, STEP = 6.0, 6, 30.0
ALL = Wedge(-90.0, 90.0)


def lopsided(edge, second=1.0, fourth=0.0):
    """A density whose angular parts are of the orders 0, 1 and 2, and of order 4 if asked."""
    along = (np.arange(edge) - edge // 2) / FINER
    z, y, x = np.meshgrid(along, along, along, indexing="ij")
    radius = np.sqrt(x**2 + y**2 + z**2) + 1e-9
    u, v, w = x / radius, y / radius, z / radius
    angular = 1 + 0.7 * u - 0.4 * w + second * (u * v + 0.5 * v**2) + fourth * (u**4 + v**4 + w**4)
    return (radius**4 * np.exp(-((radius / 2.5) ** 2)) * angular).astype(np.float32)


DENSITY = lopsided(2 * (FINER * HALF + 1) + 1)


def kernels_at(density, rotations, wedge=ALL):
    return np.array(list(RotatedKernels(density, rotations, half=HALF, radius=SUPPORT, wedge=wedge)))


def tensor_of(density, wedge=ALL):
    return tensor_kernels(rotated_kernels(density, SUPPORT, angle_step=STEP, wedge=wedge), rotation_set(STEP))


def likeness(one, other):
    """Correlation of two stacks of kernels, pair by pair."""
    both = [(a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()) for a, b in zip(one, other, strict=True)]
    return np.array(both)


@given(st.integers(0, 10**6))
def test_a_quaternion_and_its_negative_are_one_rotation(seed):
    rotation = Rotation.random(5, rng=seed)
    turned = Rotation.from_quat(-rotation.as_quat())
    np.testing.assert_allclose(monomials(rotation), monomials(turned), atol=1e-12)


def test_the_polynomials_are_independent():
    assert np.linalg.matrix_rank(monomials(rotation_set(60.0))) == COEFFICIENTS == 35


@pytest.mark.slow
def test_a_density_of_low_angular_order_is_met_in_every_orientation():
    some = Rotation.random(12, rng=1)
    fitted = np.tensordot(monomials(some), tensor_of(DENSITY), axes=1)
    assert likeness(kernels_at(DENSITY, some), fitted).min() > 0.99  # not 1: interpolation
    others = kernels_at(DENSITY, some * Rotation.from_rotvec([np.pi, 0, 0]))
    assert likeness(others, fitted).max() < 0.9


@pytest.mark.slow
def test_with_a_missing_wedge_and_higher_orders_the_polynomial_still_peaks_at_the_right_rotation():
    density, wedge = lopsided(2 * (FINER * HALF + 1) + 1, fourth=0.5), Wedge(-60.0, 60.0)
    tensor = tensor_of(density, wedge)
    true = Rotation.random(8, rng=2)
    searched = rotation_set(15.0)
    for kernel, rotation in zip(kernels_at(density, true, wedge), true, strict=True):
        coefficients = (tensor * kernel).sum(axis=(1, 2, 3))
        best = searched[int((monomials(searched) @ coefficients).argmax())]
        assert np.degrees((best * rotation.inv()).magnitude()) < 25


def test_too_few_orientations_are_refused(tmp_path):
    template = {"density": density_file(tmp_path), "angle_step": 90, "search": "tensor"}
    path = make_project(tmp_path, objective={"name": "template"}, template=template)
    with pytest.raises(InputError, match=r"angle_step of at most 60 degrees, found 90"):
        load_configuration(path)


def test_an_unknown_search_is_refused(tmp_path):
    path = make_project(tmp_path, objective={"name": "template"}, template={"density": density_file(tmp_path), "search": "fast"})
    with pytest.raises(ConfigurationError, match=r"template\.search"):
        load_configuration(path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*the clicked particles have a radius of about")
def test_a_model_with_broken_kernels_is_one_clear_error(tmp_path):
    template = {"density": density_file(tmp_path), "angle_step": 60, "tilt_range": [-90, 90], "search": "tensor"}
    path = make_project(tmp_path, objective={"name": "template"}, template=template, network={"level": 0})
    ts.train(path, out=tmp_path / "model")
    assert json.loads((tmp_path / "model" / "model.json").read_text())["settings"]["search"] == "tensor"
    for change, words in (({"search": "magic"}, "search .*magic"), ({"search": "tensor", "support_vox": [9.5]}, "kernels of the shape")):
        rewrite_record(tmp_path / "model", lambda values, change=change: values["settings"].update(change))
        with pytest.raises(InputError, match=words):
            ts.predict(np.arange(512, dtype=np.float32).reshape(8, 8, 8), tmp_path / "model")
