"""Whole tomograms: deterministic, truth inside, particles dark, files that read back."""

from dataclasses import replace

import mrcfile
import numpy as np
import pytest

from tomostream.errors import InputError
from tomostream.simulation.tomograms import SimulatedTomogram, SimulationSettings, simulate_tomogram, write_mrc

TINY = SimulationSettings.tiny()


@pytest.fixture(scope="module")
def tiny() -> SimulatedTomogram:
    return simulate_tomogram(TINY, "a")


def test_same_settings_and_name_give_the_same_bits(tiny):
    np.random.seed(7)  # noqa: NPY002 - the global generator is what must not matter
    again = simulate_tomogram(SimulationSettings.tiny(), "a")
    assert (again.volume == tiny.volume).all()
    assert (again.truth.position_zyx == tiny.truth.position_zyx).all()


def test_global_generator_is_left_alone():
    np.random.seed(7)  # noqa: NPY002 - as above
    expected = np.random.RandomState(7).random()
    simulate_tomogram(TINY, "b")
    assert np.random.random() == expected  # noqa: NPY002 - as above


@pytest.mark.parametrize(("settings", "name"), [(TINY, "b"), (SimulationSettings.tiny(seed=1), "a")])
def test_another_name_or_seed_gives_another_tomogram(tiny, settings, name):
    assert (simulate_tomogram(settings, name).truth.position_zyx != tiny.truth.position_zyx).any()


def test_truth_lists_every_species_inside_the_volume(tiny):
    names = tiny.truth.species.tolist()
    assert {name: names.count(name) for name in set(names)} == {"ribosome": 5, "proteasome": 3, "decoy": 3, "gold": 1}
    assert tiny.truth.unit == "voxel"
    assert tiny.truth.tomograms() == ["a"]
    assert (tiny.truth.position_zyx >= 0).all()
    assert (tiny.truth.position_zyx < np.array(TINY.shape)).all()


def test_volume_is_finite_float32_of_the_shape_asked_for(tiny):
    assert tiny.volume.dtype == np.float32
    assert tiny.volume.shape == (32, 64, 64)
    assert np.isfinite(tiny.volume).all()
    assert tiny.volume.flags.c_contiguous


def test_particles_are_dark_where_the_truth_says(tiny):
    clean = simulate_tomogram(replace(TINY, snr=1e6, gold=0, shift_vox=0.0), "a")
    z, y, x = np.indices(TINY.shape)
    for at in clean.truth.of(species="ribosome").position_zyx:
        inside = (z - at[0]) ** 2 + (y - at[1]) ** 2 + (x - at[2]) ** 2 <= 36
        assert clean.volume[inside].mean() < clean.volume.mean() - 0.5 * clean.volume.std()


def test_recorded_centre_is_the_centre_of_the_dark_body():
    alone = replace(TINY, ribosomes=1, proteasomes=0, decoys=0, gold=0, crowd=0, snr=1e6, shift_vox=0.0, dose=0.0)
    simulated = simulate_tomogram(alone, "centre")
    at = simulated.truth.position_zyx[0]
    z, y, x = np.indices(TINY.shape)
    dy, dx = (y - at[1] + 32) % 64 - 32, (x - at[2] + 32) % 64 - 32
    dark = np.clip(-simulated.volume, 0, None) * ((z - at[0]) ** 2 + dy**2 + dx**2 <= 144)
    off = [(dark * distance).sum() / dark.sum() for distance in (z - at[0], dy, dx)]
    assert np.linalg.norm(off) < 1.5


def test_mrc_file_reads_back_with_its_voxel_size(tmp_path, tiny):
    path = tmp_path / "a.mrc"
    write_mrc(path, tiny)
    with mrcfile.open(path) as mrc:
        assert (mrc.data == tiny.volume).all()
        assert float(mrc.voxel_size.z) == pytest.approx(13.48)
        assert mrc.is_volume()
    assert [file.name for file in tmp_path.iterdir()] == ["a.mrc"]


def test_unwritable_folder_is_one_clear_error(tmp_path, tiny):
    with pytest.raises(InputError, match="can't be written"):
        write_mrc(tmp_path / "missing" / "a.mrc", tiny)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (8, 64, 64)}, "shape"),
        ({"ribosomes": 0, "proteasomes": 0, "decoys": 0, "gold": 0}, "number of listed particles is 0"),
        ({"spacing": 0.0}, "spacing is 0.0"),
        ({"snr": 0.0}, "snr is 0.0"),
        ({"snr": float("nan")}, "snr is nan"),
        ({"ribosomes": -1}, "ribosomes is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"defocus_um": (4.0, 3.0)}, "defocus_um"),
        ({"tilt_deg": (-90.0, 60.0)}, "tilt_deg"),
        ({"tilt_step_deg": 0.0}, "tilt_step_deg is 0.0"),
        ({"shift_vox": -1.0}, "shift_vox is -1.0"),
        ({"dose": 1e9}, "dose"),
    ],
)
def test_settings_out_of_range_are_refused_by_name_and_value(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_tilts_include_both_ends():
    angles = SimulationSettings.demo(seed=0).angles_deg
    assert (len(angles), angles[0], angles[-1]) == (41, -60.0, 60.0)
