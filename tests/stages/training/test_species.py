"""A run with several species makes a model for each: as good as alone, in one folder, resumed and continued like any other."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from cli_runner import tomostream
from small_project import make_project

import tomostream as ts
from tomostream.config import configuration_from
from tomostream.errors import ExistsError, InputError
from tomostream.learn.training_files import newest
from tomostream.pipeline.dry_run import plan_run
from tomostream.pipeline.execution import run_project
from tomostream.pipeline.training import train_model
from tomostream.progress import Progress
from tomostream.stages.picks.expected_count import expected_number
from tomostream.stages.shared.resolved_run import resolve
from tomostream.strategies.loading import load_model
from tomostream.strategies.model_folder import pack_arrays, read_record, unpack_arrays
from tomostream.strategies.several_models import KIND, SeveralModels, files_in, is_same_model, summary_of

pytestmark = pytest.mark.slow
STEPS = {"steps": 20, "steps_per_epoch": 10, "crop": 16, "batch": 4, "precision": "float32"}
SPECIES = ("ribosome", "fas")


def run(values, stages=()):
    run_project(configuration_from(values, "test"), stages=list(stages), overwrite=False, progress=Progress())


def alone(values, species, project):
    """The same run with one species only."""
    own = [one for one in values["species"] if one["name"] == species]
    tables = {}
    for purpose, [path] in values["labels"].items():
        lines = Path(path).read_text().splitlines()
        table = project.parent / f"{species}-{purpose}.csv"
        table.write_text("\n".join([lines[0], *(line for line in lines[1:] if f",{species}," in line)]) + "\n")
        tables[purpose] = [str(table)]
    return values | {"species": own, "labels": tables, "project": str(project), "truth": None, "pick": {"count": 12}}


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """A finished run with two species, and its values."""
    torch.set_num_threads(1)  # other tests of this process may leave another number, and then the last digits differ
    folder = tmp_path_factory.mktemp("both")
    values = yaml.safe_load(make_project(folder, species=2, train=STEPS, network={"channels": [4, 8]}).read_text())
    run(values)
    return folder / "project", values


def test_each_species_has_the_model_and_the_scores_that_it_has_alone(both, tmp_path):
    project, values = both
    for species in SPECIES:
        single = tmp_path / species
        run(alone(values, species, single), ["convert", "stats", "train", "predict"])
        one, other = load_model(project / "model").of(species), load_model(single / "model")
        assert all(np.array_equal(value, other.network.state_dict()[name]) for name, value in one.network.state_dict().items())
        for name in ("t1", "t2"):
            found = ts.open(project / "scores" / species / f"{name}.ome.zarr").array.compute()
            assert np.array_equal(found, ts.open(single / "scores" / f"{name}.ome.zarr").array.compute())


def test_one_folder_holds_all_and_can_be_used_elsewhere(both, tmp_path):
    project, _ = both
    for name in ("model.safetensors", "model.json"):
        shutil.copy(project / "model" / name, tmp_path / name)
    model = load_model(tmp_path)
    assert isinstance(model, SeveralModels)
    assert model.settings.species == SPECIES
    store = project / "tomograms" / "t2.ome.zarr"
    done = tomostream("predict", store, "--model", tmp_path, "-o", tmp_path / "scores")
    assert done.code == 0, done.err
    for species in SPECIES:
        found = ts.open(tmp_path / "scores" / species / "t2.ome.zarr").array.compute()
        np.testing.assert_allclose(found, ts.open(project / "scores" / species / "t2.ome.zarr").array.compute(), atol=2e-3)
    scores = ts.predict(ts.open(store).array.compute(), model)
    assert scores.shape == (2, *ts.open(store).shape)


def test_the_picks_of_both_are_found_and_their_metrics_are_one_table(both):
    project, _ = both
    found = json.loads((project / "evaluation.json").read_text())
    assert found["species"].keys() == set(SPECIES)
    rows = (project / "model" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("species,epoch")
    for one in files_in(project / "model"):
        part = project / "model" / "parts" / one.species[0]
        assert (one.weights, one.record) == tuple((part / name).read_bytes() for name in ("model.safetensors", "model.json"))
    assert [row.split(",")[0] for row in rows[1:]] == ["ribosome"] * 2 + ["fas"] * 2
    assert tomostream("check", project).code == 0
    assert tomostream("report", project, "-o", project / "again.html").code == 0


def test_a_model_that_an_earlier_version_packed_is_the_same(both):
    [one, other] = files_in(both[0] / "model")
    arrays = unpack_arrays(one.weights, Path())
    assert any(value.ndim == 0 for value in arrays.values())
    earlier = replace(one, weights=pack_arrays(arrays))
    assert earlier.weights != one.weights
    assert is_same_model(earlier, one)
    assert not is_same_model(one, other)
    name = next(name for name, value in arrays.items() if value.ndim > 1)
    assert not is_same_model(replace(one, weights=pack_arrays(arrays | {name: arrays[name] + 1})), one)


def test_what_is_done_is_not_done_again_and_a_damaged_part_is_found(both, tmp_path):
    project, values = both
    before = {path: path.stat().st_mtime_ns for path in (project / "model").rglob("model.*")}
    run(values)
    assert {path: path.stat().st_mtime_ns for path in (project / "model").rglob("model.*")} == before
    copy = tmp_path / "model"
    shutil.copytree(project / "model", copy)
    weights = copy / "parts" / "fas" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    done = tomostream("check", copy)
    assert done.code == 2
    assert "parts/fas" in done.out + done.err


def test_a_kill_between_two_species_keeps_the_first(both, tmp_path):
    project, values = both
    copy = tmp_path / "model"
    shutil.copytree(project / "model", copy)
    for name in ("model.json", "model.safetensors", "metrics.csv", "parts/fas/model.json"):
        (copy / name).unlink()
    torch.set_num_threads(1)
    stamp = (copy / "parts" / "ribosome" / "model.safetensors").stat().st_mtime_ns
    train_model(configuration_from(values, "test"), out=copy, overwrite=False, progress=Progress())
    assert (copy / "parts" / "ribosome" / "model.safetensors").stat().st_mtime_ns == stamp
    assert (copy / "model.safetensors").read_bytes() == (project / "model" / "model.safetensors").read_bytes()
    assert (copy / "model.json").read_bytes() == (project / "model" / "model.json").read_bytes()


def test_progress_is_that_of_the_species_in_training(both, tmp_path):
    project, _ = both
    shutil.copytree(project / "model", tmp_path / "model")
    for name in ("model.json", "model.safetensors", "metrics.csv"):
        (tmp_path / "model" / name).unlink()
    latest = newest(tmp_path / "model", "metrics.csv")
    os.utime(latest.parents[1] / "fas" / "metrics.csv", ns=(2**62, 2**62))
    assert newest(tmp_path / "model", "metrics.csv").parent.name == "fas"
    assert newest(tmp_path, "metrics.csv") == tmp_path / "metrics.csv"  # none


def test_training_goes_on_from_the_model_of_the_same_species(both, tmp_path):
    project, values = both
    start = STEPS | {"steps": 1, "steps_per_epoch": 1, "learning_rate": 1e-9, "start": str(project / "model")}
    train_model(configuration_from(values | {"train": start}, "test"), out=tmp_path / "again", overwrite=False, progress=Progress())
    for species in SPECIES:
        before, after = (load_model(folder).of(species).network.state_dict() for folder in (project / "model", tmp_path / "again"))
        name = "encoders.0.first.conv.weight"
        assert (before[name] - after[name]).abs().max() < 1e-6


def test_a_run_goes_on_from_a_model_of_several(both, tmp_path):
    project, values = both
    start = STEPS | {"steps": 1, "steps_per_epoch": 1, "start": str(project / "model")}
    run(values | {"project": str(tmp_path / "project"), "train": start}, ["convert", "stats", "train"])
    assert load_model(tmp_path / "project" / "model").settings.species == SPECIES


def test_in_another_order_each_species_keeps_its_own_numbers(both):
    project, values = both
    record = read_record(project / "model")
    for order in (SPECIES, SPECIES[::-1]):
        given = {
            "species": sorted(
                ({"name": one["name"], "radius": one["radius"]} for one in values["species"]), key=lambda s: order.index(s["name"])
            )
        }
        resolved = resolve(configuration_from(values | given, "test"), with_clicks=False)
        for species in resolved.species:
            summary, place = summary_of(record, project / "model", species.name)
            own = json.loads((project / "model" / "parts" / species.name / "model.json").read_text())["summary"]
            assert summary.model_dump(exclude_none=True)["left_out_ranks"][place] == own["left_out_ranks"][0]
            assert expected_number(resolved, species, "t1") == own["expected_numbers"][0][0]
    assert summary_of(record, project / "model", "unknown") is None


def test_wrong_clicks_of_the_second_species_are_told_before_anything_is_trained(both, tmp_path):
    _, values = both
    train_model(configuration_from(values, "test"), out=tmp_path / "model", overwrite=False, progress=Progress())
    before = {path: path.read_bytes() for path in (tmp_path / "model").rglob("model.*")}
    [table] = values["labels"]["train"]
    rows = [line.split(",") for line in Path(table).read_text().splitlines()]
    in_a_corner = [[*row[:2], str(3 + number), "4", "5"] if row[1] == "fas" else row for number, row in enumerate(rows)]
    (tmp_path / "wrong.csv").write_text("\n".join(map(",".join, in_a_corner)) + "\n")
    given = values | {"labels": {"train": [str(tmp_path / "wrong.csv")]}}
    with pytest.raises(InputError, match="fas"):
        train_model(configuration_from(given, "test"), out=tmp_path / "model", overwrite=True, progress=Progress())
    assert {path: path.read_bytes() for path in (tmp_path / "model").rglob("model.*")} == before


def test_only_the_species_whose_clicks_changed_is_trained_again(both, tmp_path):
    project, values = both
    shutil.copytree(project / "model", tmp_path / "model")
    [table] = values["labels"]["train"]
    lines = Path(table).read_text().splitlines()
    last = max(number for number, line in enumerate(lines) if ",fas," in line)
    (tmp_path / "fewer.csv").write_text("\n".join(lines[:last] + lines[last + 1 :]) + "\n")
    stamp = (tmp_path / "model" / "parts" / "ribosome" / "model.json").stat().st_mtime_ns
    given = values | {"labels": values["labels"] | {"train": [str(tmp_path / "fewer.csv")]}}
    train_model(configuration_from(given, "test"), out=tmp_path / "model", overwrite=True, progress=Progress())
    assert (tmp_path / "model" / "parts" / "ribosome" / "model.json").stat().st_mtime_ns == stamp
    assert load_model(tmp_path / "model").settings.species == SPECIES


@pytest.mark.parametrize("damaged", ["model.safetensors", "model.json", "parts/fas/model.safetensors"])
def test_a_damaged_model_is_made_again(both, tmp_path, damaged):
    project, values = both
    torch.set_num_threads(1)
    shutil.copytree(project / "model", tmp_path / "model")
    for name in {damaged, "model.safetensors"}:
        (tmp_path / "model" / name).write_bytes(b"damaged")
    train_model(configuration_from(values, "test"), out=tmp_path / "model", overwrite=False, progress=Progress())
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == (project / "model" / "model.safetensors").read_bytes()


def test_one_model_for_all_on_demand(both, tmp_path):
    _, values = both
    together = values | {"train": STEPS | {"together": True}}
    train_model(configuration_from(together, "test"), out=tmp_path / "model", overwrite=False, progress=Progress())
    record = json.loads((tmp_path / "model" / "model.json").read_text())
    assert record["strategy"] != KIND
    assert record["settings"]["species"] == list(SPECIES)
    assert not (tmp_path / "model" / "parts").exists()


def test_the_dry_run_tells_a_training_for_each(both):
    _, values = both
    steps = plan_run(configuration_from(values, "test"), ["train", "predict"])
    assert [step.work.split(":")[0] for step in steps if step.stage == "train"] == list(SPECIES)
    assert len([step for step in steps if step.stage == "predict"]) == 2


def test_a_small_and_a_large_species_are_read_at_levels_of_their_own(both, tmp_path):
    _, values = both
    species = [values["species"][0] | {"radius": "10vox"}, values["species"][1]]
    train_model(configuration_from(values | {"species": species}, "test"), out=tmp_path / "model", overwrite=False, progress=Progress())
    model = load_model(tmp_path / "model")
    assert [part.settings.level for part in model.parts] == [1, 0]
    assert model.settings.level == 0


def test_a_refusal_names_the_species_and_what_changed(both):
    _, values = both
    ribosome, fas = values["species"]
    changed = values | {"species": [ribosome, fas | {"expected": 13}]}
    with pytest.raises(ExistsError, match=r"fas: .*expected") as found:
        train_model(configuration_from(changed, "test"), out=None, overwrite=False, progress=Progress())
    assert "ribosome" not in str(found.value).partition("(")[2]
    with pytest.raises(ExistsError, match="it holds a model per species, now there would be one"):
        train_model(
            configuration_from(values | {"train": STEPS | {"together": True}}, "test"), out=None, overwrite=False, progress=Progress()
        )


def test_a_record_with_a_broken_part_is_refused(both, tmp_path):
    project, _ = both
    copy = tmp_path / "model"
    shutil.copytree(project / "model", copy)
    record = json.loads((copy / "model.json").read_text())
    del record["settings"]["parts"][1]["strategy"], record["seal"]
    (copy / "model.json").write_text(json.dumps(record))
    with pytest.raises(InputError, match=r"is broken|was damaged"):
        load_model(copy)
