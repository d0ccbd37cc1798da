"""Training of `sphere` leaves what counting needs, as that of `average` does."""

import numpy as np
import pytest
from small_project import make_project

from tomostream.config import load_configuration
from tomostream.picking.peak_heights import LOST
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.strategies.model_folder import read_record

# the balls of the small project look larger than the radius that it names, which a training tells
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*the clicked particles have a radius of about")]


def test_it_records_how_high_the_clicks_stand_for_counting(tmp_path):
    path = make_project(tmp_path, objective={"name": "sphere"}, network={}, pick={"count": "auto"})
    model = train_model(load_configuration(path), out=None, overwrite=False, progress=Progress())
    (clicks,) = read_record(model).summary.clicks
    assert len(clicks.learnt) == len(clicks.left_out) == 5
    assert np.median(clicks.left_out) > 1 > LOST
    assert np.median(clicks.ranks) <= 24
