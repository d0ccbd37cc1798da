"""The path's first steps on real files: the tomograms with known truth, their clicks, and coordinate lists of other people."""

from pathlib import Path

import numpy as np
import pytest
from repository import REPOSITORY

import tomostream as ts
from tomostream.config import load_configuration
from tomostream.formats.registry import Conversion, read_table
from tomostream.geometry import Box
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import STAGES

pytestmark = [pytest.mark.slow, pytest.mark.data]


@pytest.fixture(scope="module")
def converted(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ts.convert(data_folder / "pombe_sim" / "DEF_01.mrc", tmp_path_factory.mktemp("data"))


def test_simulated_tomogram_converts_with_its_spacing(converted):
    tomogram = ts.open(converted)
    assert tomogram.shape == (112, 320, 320)
    assert tomogram.dtype == np.int8
    assert tomogram.spacing == pytest.approx(13.48, abs=1e-3)
    assert tomogram.at_level(1).shape == (56, 160, 160)


def test_statistics_are_those_of_numpy(converted):
    found = ts.statistics(converted)
    tomogram = ts.open(converted)
    values = tomogram.read(Box.whole(tomogram.shape)).astype(np.float64)
    assert found.mean == pytest.approx(values.mean(), abs=1e-6 * values.std())
    assert found.std == pytest.approx(values.std(), rel=1e-6)


def test_truth_is_darker_than_its_surroundings(data_folder, converted):
    """Axes, origin and contrast agree: a swap of x and z, or half a voxel lost ten times over, would not survive this."""
    tomogram = ts.open(converted)
    volume = tomogram.read(Box.whole(tomogram.shape)).astype(np.float32)
    truth = read_table(data_folder / "pombe_sim" / "truth.csv").of(tomogram="DEF_01", species="ribosome").position_zyx
    inside = ts.label_mask(truth, tomogram.shape, radius=6.0).compute() != 0
    swapped = ts.label_mask(truth[:, [0, 2, 1]], tomogram.shape, radius=6.0).compute() != 0
    contrast = volume[~inside].mean() - volume[inside].mean()
    assert contrast > 5 * abs(volume[~swapped].mean() - volume[swapped].mean())


def test_configuration_of_the_data_can_be_planned(data_folder, monkeypatch):
    monkeypatch.setenv("TOMOSTREAM_DATA", str(data_folder))
    configuration = load_configuration(REPOSITORY / "configs" / "pombe_sim.yaml")
    steps = plan_run(configuration, list(STAGES))
    assert [step.tomogram for step in steps if step.stage == "predict"] == ["DEF_01", "DEF_02", "DEF_03", "DEF_04"]


def test_coordinate_lists_without_header_are_read_with_their_columns(data_folder):
    given = Conversion(columns=["x", "y", "z"], unit="voxel", tomogram="TS_026", species="ribosome")
    found = read_table(data_folder / "empiar10988_coordinates" / "TS_026_cyto_ribosomes.csv", conversion=given)
    assert len(found) == 838
    assert (found.position_zyx.max(axis=0) < (928, 960, 960)).all()


def test_real_tomogram_of_signed_bytes_converts(data_folder, tmp_path):
    tomogram = ts.open(ts.convert(data_folder / "ferritin_real" / "ferritin.mrc", tmp_path))
    assert tomogram.shape == (158, 474, 348)
    assert tomogram.attributes["source"]["mode"] == 0
