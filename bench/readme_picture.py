"""Make the README's picture: python -m bench.readme_picture [FOLDER] runs the demo in FOLDER, if it is not there, and writes docs/demo.png.

The picture names the version that made it; tests/test_readme.py fails if a release has the picture of an earlier one.
"""

import io
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from scipy import ndimage

from bench.slice_pictures import SliceView, slice_picture
from tomostream.config import Species, load_configuration
from tomostream.evaluation import match
from tomostream.geometry import Box
from tomostream.pipeline.demonstration import run_demo
from tomostream.pipeline.report_page import Found, find_results
from tomostream.progress import Progress
from tomostream.project import Project
from tomostream.remote.places import Place
from tomostream.score_map import open_score_map
from tomostream.stages.shared.resolved_run import ResolvedRun, resolve
from tomostream.version import VERSION

PICTURE = Path(__file__).parents[1] / "docs" / "demo.png"
SLAB_VOX = 5  # slices averaged, since a single one shows little but noise
EYE_SIGMA = 0.15  # standard deviation of the smoothing, in radii
WIDEST_VOX = 1400  # wider slices are drawn from a coarser level


def main(folder: str = "tomostream-demo") -> None:
    """Run the demo, unless it is there, and draw the picture."""
    run_demo(Path(folder), overwrite=False, make_progress=lambda _: Progress())
    draw(folder)


def draw(folder: str) -> None:
    """Draw a slice of the third tomogram, which has no clicks."""
    run = resolve(load_configuration(Project(Path(folder)).resolved), with_clicks=False, with_truth=True)
    found = next(f for f in find_results(run, run.truth) if f.name == "demo_3")
    made_by = PngInfo()
    made_by.add_text("tomostream", VERSION)
    Image.open(io.BytesIO(slice_picture(view_slice(found, run.species[0], run)))).save(PICTURE, pnginfo=made_by, optimize=True)


def view_slice(found: Found, species: Species, run: ResolvedRun) -> SliceView:
    """Cut the slice with most picks, at a pyramid level at which it is not too wide."""
    whole = found.tomogram
    assert whole is not None
    assert found.picks is not None
    radius = species.radius.in_voxels(whole.spacing)
    level = 0
    while max(whole.at_level(level).shape[1:]) > WIDEST_VOX:
        level += 1
    tomogram = whole.at_level(level)
    picks = tomogram.to_level_positions(found.picks.of(species=species.name).position_zyx)
    depth = tomogram.shape[0]
    z = int(np.bincount(np.clip(np.rint(picks[:, 0]).astype(int), 0, depth - 1), minlength=depth).argmax()) if len(picks) else depth // 2
    slab = Box((z - SLAB_VOX // 2, 0, 0), (z + SLAB_VOX // 2 + 1, *tomogram.shape[1:])).clipped(Box.whole(tomogram.shape))
    # smoothed for the eye: at full resolution noise hides the particles
    image: np.ndarray = ndimage.gaussian_filter(tomogram.read(slab).astype(np.float32).mean(axis=0), EYE_SIGMA * radius / 2**level)
    truth = None if found.truth is None else tomogram.to_level_positions(found.truth[species.name].position_zyx)
    if truth is None:
        hits, misses, false_picks = picks, picks[:0], picks[:0]
    else:
        tolerance = run.tolerance.in_voxels(whole.spacing) / 2**level
        matching = match(picks, truth, tolerance=tolerance, matching=run.matching)
        hits, false_picks = picks[matching.truth_of_pick >= 0], picks[matching.truth_of_pick < 0]
        misses = truth[matching.pick_of_truth < 0]
    return SliceView(
        name=whole.name,
        z=z,
        image=image,
        scores=_scores_at(run.score_map(species, whole.name), z, level),
        hits=hits,
        misses=misses,
        false_picks=false_picks,
        radius=radius / 2**level,
        has_truth=truth is not None,
    )


def _scores_at(path: Place, z: int, level: int) -> np.ndarray | None:
    """Read one slice of a score map; None if the map was not kept."""
    if not path.exists():
        return None
    scores = open_score_map(path).at_level(level)
    if scores.attributes.logits:
        return None
    return np.asarray(scores.read(Box((z, 0, 0), (z + 1, *scores.shape[1:])))[0], dtype=np.float32)


if __name__ == "__main__":
    main(*sys.argv[1:])
