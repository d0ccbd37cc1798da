"""The loop learns, keeps the best epoch, resumes bit for bit, and says what is wrong."""

import math
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tomostream.errors import ExistsError, InputError, TomostreamError
from tomostream.learn.batch import Batch
from tomostream.learn.checkpoint import load_checkpoint
from tomostream.learn.fit import Lesson, fit
from tomostream.learn.objectives import make_objective
from tomostream.learn.precision import resolve_precision
from tomostream.learn.processes import ALONE
from tomostream.learn.steps import FitSettings
from tomostream.learn.training_files import CHECKPOINT_NAME as NAME
from tomostream.strategies.unet.network import ResidualUNet

pytestmark = pytest.mark.slow

SETTINGS = FitSettings(
    steps=12, minutes=None, steps_per_epoch=3, learning_rate=1e-2, schedule="cosine", weight_decay=0.01, precision="float32", device="cpu"
)
OBJECTIVE = make_objective("kl", weight=10.0, order="prior_to_pu", labelled_fraction=[0.02], expected_fraction=[0.1])


class Killed(BaseException):
    """Stands for a signal: nothing in the package may swallow it."""


def batch_of(seed: int) -> Batch:
    """Noise with a bright cube of 4 voxels, labelled in the first of two crops."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(2, 1, 8, 8, 8))
    positive = np.zeros((2, 1, 8, 8, 8), dtype=bool)
    for n in range(2):
        z, y, x = rng.integers(0, 5, size=3)
        image[n, 0, z : z + 4, y : y + 4, x : x + 4] += 3
        positive[n, 0, z : z + 4, y : y + 4, x : x + 4] = n == 0
    return Batch(torch.tensor(image, dtype=torch.float32), torch.tensor(positive), torch.ones(2, 1, 8, 8, 8), torch.tensor([True, False]))


def batches(epoch: int) -> Iterator[Batch]:
    seed = 1000 * epoch
    while True:  # more than the loop takes
        seed += 1
        yield batch_of(seed)


def recalibrate() -> list[torch.Tensor]:
    return [batch_of(seed).image for seed in range(3)]


def validate(network: torch.nn.Module) -> dict[str, float]:
    """How much brighter the labelled voxels' logits are."""
    batch = batch_of(999_999)
    logits = network(batch.image).float()
    gap = logits[batch.positive].mean() - logits[~batch.positive].mean()
    return {"criterion": float(gap), "gap": float(gap)}


def train(folder: Path, **changes):
    network = ResidualUNet((2, 4), 1, prior=[0.1], seed=0)
    lesson = {"batches": batches, "objective": OBJECTIVE, "validate": validate, "recalibrate": recalibrate}
    rest = {"folder": folder, "fingerprint": {"data": "cubes"}, "report": lambda steps, note: None, "processes": ALONE}
    given = {"settings": SETTINGS, **lesson, **rest} | changes
    result = fit(network, Lesson(**{key: given[key] for key in lesson}), given["settings"], **{key: given[key] for key in rest})
    return network, result


def bytes_of(network: torch.nn.Module) -> dict[str, bytes]:
    return {name: value.numpy().tobytes() for name, value in network.state_dict().items()}


def killed_after(steps: int):
    count = 0

    def report(done: int, note: str) -> None:
        nonlocal count
        count += done if note.startswith("loss") else 0
        if count == steps:
            raise Killed

    return report


@pytest.mark.parametrize("schedule", ["cosine", "plateau"])
def test_killed_and_resumed_training_equals_training_without_a_kill(tmp_path, schedule):
    settings = replace(SETTINGS, schedule=schedule)
    straight, result = train(tmp_path / "straight", settings=settings)
    for kill in (8, 5):  # in the third epoch; then, from the second epoch's end, in the fourth
        with pytest.raises(Killed):
            train(tmp_path / "killed", settings=settings, report=killed_after(kill))
    resumed, again = train(tmp_path / "killed", settings=settings)
    assert bytes_of(resumed) == bytes_of(straight)
    assert again.rows == result.rows
    assert again.best_epoch == result.best_epoch
    assert (tmp_path / "straight" / "metrics.csv").read_bytes() == (tmp_path / "killed" / "metrics.csv").read_bytes()


def test_killed_between_checkpoint_and_table_loses_no_row(tmp_path):
    train(tmp_path)
    whole = (tmp_path / "metrics.csv").read_bytes()
    (tmp_path / "metrics.csv").unlink()
    train(tmp_path)
    assert (tmp_path / "metrics.csv").read_bytes() == whole


def test_finished_training_is_not_done_again(tmp_path):
    first, _ = train(tmp_path)

    def no_batches(epoch: int) -> Iterator[Batch]:
        raise AssertionError(f"epoch {epoch} was asked for")

    second, result = train(tmp_path, batches=no_batches)
    assert bytes_of(first) == bytes_of(second)
    assert result.steps == 12


def test_bf16_training_resumes_bit_identically_and_learns(tmp_path):
    settings = replace(SETTINGS, precision="bf16")
    straight, result = train(tmp_path / "straight", settings=settings)
    with pytest.raises(Killed):
        train(tmp_path / "killed", settings=settings, report=killed_after(4))
    resumed, _ = train(tmp_path / "killed", settings=settings)
    assert bytes_of(resumed) == bytes_of(straight)
    assert result.precision == resolve_precision("bf16", torch.device("cpu"))
    assert all(value.dtype in (torch.float32, torch.int64) for value in straight.state_dict().values())


def test_training_learns_to_tell_particles_from_noise(tmp_path):
    _, result = train(tmp_path, settings=replace(SETTINGS, steps=60, steps_per_epoch=30))
    assert result.rows[-1]["gap"] > 1
    assert result.rows[-1]["train_labelled_positive"] < result.rows[0]["train_labelled_positive"]


def test_epochs_are_counted_and_the_last_may_be_shorter(tmp_path):
    _, result = train(tmp_path, settings=replace(SETTINGS, steps=7))
    assert [row["step"] for row in result.rows] == [3, 6, 7]
    assert result.rows[-1]["learning_rate"] < result.rows[0]["learning_rate"]


def test_best_epoch_is_the_one_of_the_largest_criterion_and_its_weights_are_kept(tmp_path):
    criteria = iter([0.2, math.nan, 0.7, 0.5])
    seen: list[dict[str, bytes]] = []

    def told(network: torch.nn.Module) -> dict[str, float]:
        assert not network.training
        assert not torch.is_grad_enabled()
        seen.append(bytes_of(network))
        return {"criterion": next(criteria)}

    network, result = train(tmp_path, validate=told)
    assert result.best_epoch == 3
    assert bytes_of(network) == seen[2]
    assert not network.training


def test_first_epoch_is_best_when_no_criterion_says_anything(tmp_path):
    _, result = train(tmp_path, validate=lambda network: {"criterion": math.nan})
    assert result.best_epoch == 1


def test_validated_network_has_statistics_of_the_uniform_crops(tmp_path):
    shifted = [image + 5 for image in recalibrate()]
    means: list[torch.Tensor] = []

    def told(network: torch.nn.Module) -> dict[str, float]:
        means.append(network.encoders[0].first.norm.running_mean.clone())
        return {"criterion": 0.0}

    train(tmp_path / "a", validate=told, settings=replace(SETTINGS, steps=3))
    train(tmp_path / "b", validate=told, settings=replace(SETTINGS, steps=3), recalibrate=lambda: shifted)
    assert (means[0] - means[1]).abs().max() > 0.5


def test_checkpoint_of_another_run_is_refused_with_what_differs(tmp_path):
    train(tmp_path, settings=replace(SETTINGS, steps=3))
    with pytest.raises(ExistsError, match=r'data: "cubes" there, "spheres" here.*--overwrite'):
        train(tmp_path, settings=replace(SETTINGS, steps=3), fingerprint={"data": "spheres"})
    with pytest.raises(ExistsError, match="fit: "):
        train(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 broken"])
def test_broken_checkpoint_is_one_clear_error(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt can't be read.*remove it"):
        train(tmp_path)


def test_truncated_checkpoint_is_one_clear_error(tmp_path):
    train(tmp_path, settings=replace(SETTINGS, steps=3))
    whole = (tmp_path / NAME).read_bytes()
    (tmp_path / NAME).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="can't be read"):
        load_checkpoint(tmp_path, {})


def test_not_finite_loss_stops_and_names_step_and_terms(tmp_path):
    def poisoned(epoch: int) -> Iterator[Batch]:
        for i, batch in zip(range(3), batches(epoch), strict=False):
            yield batch._replace(image=batch.image * math.inf) if (epoch, i) == (1, 1) else batch

    with pytest.raises(TomostreamError, match=r"not finite at step 5 \(loss nan.*labelled_positive nan.*learning_rate \(now"):
        train(tmp_path, batches=poisoned)
    assert (tmp_path / NAME).exists()


def test_exception_of_the_batches_is_raised_and_no_thread_is_left(tmp_path):
    def failing(epoch: int) -> Iterator[Batch]:
        yield batch_of(0)
        raise InputError(f"store of epoch {epoch} is gone")

    with pytest.raises(InputError, match="epoch 0 is gone"):
        train(tmp_path, batches=failing)
    assert not [thread for thread in threading.enumerate() if thread.name == "tomostream-prefetch"]


def test_epoch_without_a_batch_is_an_error(tmp_path):
    with pytest.raises(TomostreamError, match="epoch 1 has no batch"):
        train(tmp_path, batches=lambda epoch: [])


def test_recalibration_without_an_image_is_an_error(tmp_path):
    with pytest.raises(TomostreamError, match="at least one batch of uniform crops"):
        train(tmp_path, recalibrate=list)


def test_minutes_end_the_run_early(tmp_path):
    _, result = train(tmp_path, settings=replace(SETTINGS, steps=100_000, steps_per_epoch=1000, minutes=0.5 / 60))
    assert 0 < result.steps < 100_000
    assert result.seconds < 20


def test_report_counts_every_step_once_also_after_a_kill(tmp_path):
    steps: list[int] = []
    train(tmp_path, settings=replace(SETTINGS, steps=7), report=lambda done, note: steps.append(done))
    assert sum(steps) == 7
    with pytest.raises(Killed):
        train(tmp_path / "killed", report=killed_after(7))
    steps.clear()
    train(tmp_path / "killed", report=lambda done, note: steps.append(done))
    assert sum(steps) == 12


def test_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        train(tmp_path / "file", settings=replace(SETTINGS, steps=3))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"steps": 0}, "steps"),
        ({"minutes": 0.0}, "minutes"),
        ({"learning_rate": math.nan}, "learning_rate"),
        ({"weight_decay": -1.0}, "weight_decay"),
    ],
)
def test_impossible_settings_are_refused(change, said):
    with pytest.raises(InputError, match=said):
        replace(SETTINGS, **change)
