"""The clicks show how large the particles are; it is told, taken where none is given, and doubted where the given one is clearly off."""

import functools

import numpy as np
import pytest
import yaml
from cli_runner import tomostream
from small_project import make_project

from tomostream.config import load_configuration
from tomostream.errors import InputError
from tomostream.pipeline.dry_run import plan_run
from tomostream.stages.shared.click_radius import click_radius
from tomostream.stages.shared.coarse_volume import CoarseVolume
from tomostream.stages.shared.resolved_run import resolve
from tomostream.store.pyramid import mean_pooled

pytestmark = pytest.mark.slow

SHAPE = (64, 120, 120)


@functools.cache
def balls(radius, wall, sign):
    """Balls or shells in noise, and their centres."""
    rng = np.random.default_rng(0)
    volume = rng.normal(0, 1, SHAPE).astype(np.float32)
    step = round(3.2 * radius)
    first = round(1.6 * radius)
    axes = [np.arange(first, n - first + 1, step) for n in SHAPE]
    centres = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3) + rng.uniform(-1, 1, (np.prod([len(a) for a in axes]), 3))
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    for cz, cy, cx in centres:
        distance = (z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2
        volume[(distance < radius**2) & (distance >= (radius - wall) ** 2)] += sign * 1.5
    return volume, centres


def opened(volume, level):
    for _ in range(level):
        volume = mean_pooled(volume)
    return CoarseVolume("t", volume.shape, level, lambda box: volume[box.slices])


@pytest.mark.parametrize(("radius", "wall", "sign"), [(5.0, 5.0, -1), (9.0, 9.0, -1), (9.0, 9.0, 1), (8.0, 3.0, -1)])
@pytest.mark.parametrize("spacing", [13.48, 7.0])
def test_the_radius_of_balls_and_shells_is_found_to_a_voxel_or_so(radius, wall, sign, spacing):
    volume, centres = balls(radius, wall, sign)
    clicks = centres[:: max(1, len(centres) // 12)] + np.random.default_rng(1).uniform(
        -1, 1, (len(centres[:: max(1, len(centres) // 12)]), 3)
    )
    found = click_radius([(functools.partial(opened, volume), clicks)], spacing=spacing)
    assert found == pytest.approx(radius, abs=1.6)


@pytest.mark.slow
def test_clearer_gaps_between_touching_shells_are_not_taken_for_the_particle():
    rng = np.random.default_rng(0)
    volume = rng.normal(0.0, 1.0, SHAPE).astype(np.float32)
    pitch, radius = 14, 6.0
    centres = np.stack(np.meshgrid(*(np.arange(pitch, n - pitch + 1, pitch) for n in SHAPE), indexing="ij"), axis=-1).reshape(-1, 3)
    gap = np.full(SHAPE, fill_value=True)
    z, y, x = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    for cz, cy, cx in centres:
        distance = np.sqrt((z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2)
        volume[(distance < radius) & (distance >= 3)] -= 1.0
        gap &= distance >= radius
    inside = (slice(pitch - 8, SHAPE[0] - pitch + 8), slice(pitch - 8, SHAPE[1] - pitch + 8), slice(pitch - 8, SHAPE[2] - pitch + 8))
    volume[inside][gap[inside]] += 2.0
    for seed in range(6):
        clicks = np.random.default_rng(seed).permutation(centres)[:20] + np.random.default_rng(seed).uniform(-1, 1, (20, 3))
        assert click_radius([(functools.partial(opened, volume), clicks)], spacing=10.0) == pytest.approx(radius, abs=1.6)


def test_clicks_on_nothing_and_few_clicks_show_no_radius():
    noise = np.random.default_rng(0).normal(0, 1, SHAPE).astype(np.float32)
    clicks = np.random.default_rng(1).uniform(20, 44, (12, 3))
    assert click_radius([(functools.partial(opened, noise), clicks)], spacing=13.48) is None
    volume, centres = balls(9.0, 9.0, -1)
    assert click_radius([(functools.partial(opened, volume), centres[:4])], spacing=13.48) is None


def without_radius(folder):
    path = make_project(folder)
    values = yaml.safe_load(path.read_text())
    del values["species"][0]["radius"]
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.slow
def test_a_radius_that_is_not_given_is_that_of_the_clicks(tmp_path):
    path = without_radius(tmp_path)
    run = resolve(load_configuration(path), with_clicks=False)
    radius = run.species[0].radius.in_voxels(10.0)
    assert 4.5 <= radius <= 7.5  # blobs of deviation 3
    assert run.values["species"][0]["radius"] == str(run.species[0].radius)
    (step,) = plan_run(load_configuration(path), ["train"])
    assert "radius about" in step.work
    assert f"(taken: {radius:g})" in step.work


def test_a_radius_that_can_not_be_seen_is_asked_for(tmp_path):
    path = without_radius(tmp_path)
    (tmp_path / "train.csv").write_text("\n".join((tmp_path / "train.csv").read_text().splitlines()[:4]) + "\n")
    with pytest.raises(InputError, match=r"species 'ribosome': radius is not given.*five or more"):
        resolve(load_configuration(path), with_clicks=False)


@pytest.mark.slow
def test_a_radius_that_is_clearly_off_is_told(tmp_path):
    path = make_project(tmp_path, species=1)
    values = yaml.safe_load(path.read_text())
    values["species"][0]["radius"] = "3vox"
    path.write_text(yaml.safe_dump(values | {"objective": {"name": "average"}}))
    done = tomostream("run", path, "--dry-run")
    assert done.code == 0, done.err
    assert "clearly off" in done.out.replace("\n", " ")
