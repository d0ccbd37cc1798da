"""Two processes of torchrun train as one with both batches: losses, gradients, batch-norm, weights."""

import pytest
import torch
import torchrun_tasks
from repository import SUPPORT
from torchrun_runs import torchrun

from tomostream.learn.processes import ALONE

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What each of two processes came to."""
    folder = tmp_path_factory.mktemp("torchrun")
    for name in ("fit", "timed"):
        (folder / name).mkdir()
    code, told = torchrun(SUPPORT / "torchrun_tasks.py", folder)
    assert code == 0, told
    return [torch.load(folder / f"{rank}.pt", weights_only=False) | {"folder": folder} for rank in (0, 1)]


@pytest.fixture(scope="module")
def one(tmp_path_factory):
    """What one process comes to with the whole batch."""
    folder = tmp_path_factory.mktemp("alone")
    for name in ("fit", "timed"):
        (folder / name).mkdir()
    return torchrun_tasks.everything(ALONE, folder)


@pytest.mark.parametrize("name", torchrun_tasks.OBJECTIVES)
def test_two_halves_of_a_batch_give_the_loss_and_gradients_of_the_whole(name, both, one):
    whole = one["steps"][name]
    assert ("violated_0" in whole["terms"] and bool(whole["terms"]["violated_0"])) == (name == "nnpu violated")
    largest = max(float(gradient.abs().max()) for gradient in whole["gradients"].values())
    for half in (process["steps"][name] for process in both):
        assert half["terms"].keys() == whole["terms"].keys()
        for part in ("terms", "gradients", "statistics"):
            for key, value in whole[part].items():
                scale = largest if part == "gradients" else 1.0
                torch.testing.assert_close(half[part][key], value, rtol=1e-5, atol=1e-5 * scale, msg=lambda text, key=key: f"{key}: {text}")


def test_both_processes_end_with_the_same_bits(both):
    for key, value in both[0]["trained"]["weights"].items():
        assert torch.equal(both[1]["trained"]["weights"][key], value), key
    assert both[0]["trained"]["rows"] == both[1]["trained"]["rows"]
    assert len(both[0]["trained"]["rows"]) == 3


def test_a_process_that_ends_is_noticed_at_once(both):
    assert "another process of this training ended" in (both[0]["folder"] / "told").read_text()


def test_a_time_limit_ends_both_processes_at_the_same_step(both):
    assert both[0]["timed"]["steps"] == both[1]["timed"]["steps"] > 0
    assert both[0]["timed"]["rows"] == both[1]["timed"]["rows"]


def test_training_on_two_processes_follows_training_on_one(both, one):
    for key, value in one["trained"]["weights"].items():
        torch.testing.assert_close(
            both[0]["trained"]["weights"][key], value, rtol=1e-2, atol=2e-3, msg=lambda text, key=key: f"{key}: {text}"
        )
