"""The pretraining: what is simulated, what is taught, and that a killed run ends with the same bytes."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.pretraining.backbone import Backbone
from bench.pretraining.episodes import Group, few_shot_head, heat_maps, lda_head
from bench.pretraining.scenes import add_points, draw_ice, place
from bench.pretraining.simulating import Sizes, simulate
from bench.pretraining.species import draw_species
from bench.pretraining.training import Settings, load_backbone, train

ROOT = Path(__file__).parent.parent
SMALL = Sizes(groups=1, tomograms=2, volumes=2, edge=32, species=4, places=16, beads=48, crowd=60, crowd_beads=4)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def group_of(batch) -> Group:
    return Group(batch.image[0], batch.clean[0], batch.position[0], batch.species[0], batch.is_there[0], batch.radius[0])


@pytest.mark.slow
def test_needs_nothing_but_torch_numpy_scipy_safetensors_and_jaxtyping():
    program = (
        "import sys, importlib.abc\n"
        "allowed = set(sys.stdlib_module_names) | {'torch', 'torchgen', 'functorch', 'numpy', 'scipy', 'safetensors', 'jaxtyping',"
        " 'typing_extensions', 'wadler_lindig', 'tomostream', 'bench', 'sympy', 'mpmath', 'networkx', 'jinja2', 'fsspec', 'filelock',"
        " 'packaging', 'yaml', 'triton', 'psutil', 'setuptools', 'optree', 'markupsafe'}\n"
        "forbidden = {'zarr', 'pydantic', 'dask', 'distributed', 'mrcfile', 'pandas', 'typer', 'rich', 'starfile', 'pyarrow', 'matplotlib'}\n"
        "import bench.pretraining.__main__\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded & forbidden))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_same_seed_gives_the_same_batch_and_another_seed_another():
    first, again, other = (simulate(SMALL, generator(seed)) for seed in (3, 3, 4))
    assert torch.equal(first.image, again.image)
    assert torch.equal(first.position, again.position)
    assert not torch.equal(first.image, other.image)


@pytest.mark.parametrize("seed", range(6))
def test_tomograms_are_standardised_and_finite(seed):
    batch = simulate(SMALL, generator(seed))
    flat = batch.image.reshape(2, -1)
    assert torch.isfinite(batch.image).all()
    assert torch.isfinite(batch.clean).all()
    assert torch.allclose(flat.mean(1), torch.zeros(2), atol=1e-4)
    assert torch.allclose(flat.std(1), torch.ones(2), atol=1e-3)


def test_particles_are_dark_and_centres_lie_in_density():
    darker, denser = [], []
    for seed in range(12):
        batch = simulate(SMALL, generator(seed))
        image, clean = batch.image.flatten(), batch.clean.flatten()
        darker.append(float((image * clean).mean() / clean.std()))
        there = batch.is_there[0]
        z, y, x = (batch.position[0][there].round().long() % SMALL.edge).unbind(-1)
        t, v, _ = there.nonzero().unbind(-1)
        if len(t) > 5:
            denser.append(float(batch.clean[0][t, v, z, y, x].mean()))
    assert np.mean(darker) < -0.03
    assert min(denser) > 0.2


def test_particles_do_not_overlap_across_the_periodic_faces():
    edge, g = 32, generator(1)
    radius = torch.tensor([[3.0, 4.5]]).expand(2, -1)
    ice = draw_ice(2, edge, g)
    placed = place(
        radius, torch.ones(2, 2), places=40, filled=torch.full((2,), 0.3), tightness=torch.ones(2), clustered=torch.full((2,), 0.5),
        ice=ice, edge=edge, generator=g,
    )  # fmt: skip
    assert int(placed.is_there.sum()) > 10
    for b in range(2):
        at, size = placed.position[b][placed.is_there[b]], placed.radius[b][placed.is_there[b]]
        difference = at[:, None] - at[None]
        difference = difference - edge * torch.round(difference / edge)
        distance = difference.norm(dim=-1) + 1e3 * torch.eye(len(at))
        assert (distance >= 0.979 * (size[:, None] + size[None])).all()


def test_beads_keep_their_mass_and_middle_on_the_grid():
    grid = torch.zeros(1, 16, 16, 16)
    points, mass = torch.tensor([[[7.25, 8.5, 3.75], [4.0, 5.0, 6.0]]]), torch.tensor([[2.0, 0.0]])
    add_points(grid, points, mass)
    where = torch.stack(torch.meshgrid(*[torch.arange(16.0)] * 3, indexing="ij"), -1)
    assert torch.allclose(grid.sum(), torch.tensor(2.0))
    assert torch.allclose((grid[0, ..., None] * where).sum((0, 1, 2)) / 2, points[0, 0], atol=1e-5)


def test_species_have_the_radius_that_was_asked_for():
    radius = torch.tensor([[4.0, 6.0, 8.0]])
    species = draw_species(radius, torch.ones(1, 3), beads=200, look_alikes=False, generator=generator())
    reach = species.beads.norm(dim=-1).quantile(0.95, dim=-1)
    assert torch.allclose(reach, radius, rtol=1e-3)
    assert torch.allclose((species.mass[..., None] * species.beads).sum(-2), torch.zeros(1, 3, 3), atol=1e-2 * float(species.mass.sum()))


def test_heat_maps_peak_at_the_voxel_nearest_to_a_centre():
    position = torch.tensor([5.2, 9.9, 0.1]).reshape(1, 1, 1, 3)
    shape = torch.zeros(1, 1, 16, 16, 16)
    group = Group(
        shape, shape, position, torch.ones(1, 1, 1, dtype=torch.long), torch.ones(1, 1, 1, dtype=torch.bool), torch.tensor([3.0, 5.0])
    )
    heat = heat_maps(group)
    assert heat[0, 0, 0].max() == 0
    assert np.unravel_index(int(heat[0, 0, 1].argmax()), (16, 16, 16)) == (5, 10, 0)
    assert 0.95 < float(heat.max()) <= 1


def test_head_is_the_discriminant_of_its_formula():
    g = generator(2)
    backbone = Backbone((4, 8), seed=0)
    clicks, unclicked = torch.randn(1, 10, 4, generator=g) + 2, torch.randn(300, 4, generator=g)
    weights, biases, known = lda_head(clicks, torch.ones(1, 10), unclicked, torch.full((300,), 1 / 300), backbone)
    a, ridge, scale = torch.sigmoid(backbone.own_share).item(), backbone.shrinkage.exp().item(), backbone.scale.exp().item()
    spread = (1 - a) * np.cov(unclicked.numpy().T, bias=True) + a * np.cov(clicks[0].numpy().T, bias=True)
    spread += (ridge * np.trace(spread) / 4 + 1e-6) * np.eye(4)
    m, u = clicks[0].mean(0).numpy(), unclicked.mean(0).numpy()
    w = np.linalg.solve(spread, m - u)
    np.testing.assert_allclose(weights[0].detach().numpy(), scale * w, rtol=1e-3)
    np.testing.assert_allclose(biases[0].item(), backbone.bias.item() - scale * w @ (m + u) / 2, rtol=1e-3)
    assert known.item()


def test_species_with_few_clicks_has_no_head():
    batch = simulate(SMALL, generator())
    group = group_of(batch)
    nobody = Group(group.image, group.clean, group.position, group.species, torch.zeros_like(group.is_there), group.radius)
    backbone = Backbone((4, 8), seed=0)
    features = torch.randn(2, 4, 32, 32, 32, generator=generator())
    weights, _, known = few_shot_head(backbone, features, nobody, generator())
    assert not known.any()
    assert torch.isfinite(weights).all()


@pytest.mark.slow
def test_killed_run_ends_with_the_bytes_of_an_undisturbed_one(tmp_path):
    settings = Settings((4, 8), 5, 1e-3, 1, SMALL)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, settings, minutes=1, steps=3, device=torch.device("cpu"))
    for _ in range(3):
        train(parts, settings, minutes=1, steps=3, device=torch.device("cpu"), stop_after=0.0)
    train(parts, settings, minutes=1, steps=3, device=torch.device("cpu"))
    assert (whole / "backbone.safetensors").read_bytes() == (parts / "backbone.safetensors").read_bytes()
    told = json.loads((parts / "backbone.json").read_text())
    assert told["progress"]["step"] == 3
    assert told["settings"]["seed"] == 5
    assert load_backbone(parts / "backbone.safetensors").body.channels == (4, 8)


@pytest.mark.slow
def test_other_settings_do_not_go_on_with_a_checkpoint(tmp_path):
    train(tmp_path, Settings((4, 8), 5, 1e-3, 1, SMALL), minutes=1, steps=1, device=torch.device("cpu"))
    with pytest.raises(SystemExit, match="choose another folder"):
        train(tmp_path, Settings((4, 8), 6, 1e-3, 1, SMALL), minutes=1, steps=1, device=torch.device("cpu"))
