"""A checkpoint is whole, or refused; those of 0.1, without a hash, are read."""

import numpy as np
import pytest
import torch

from tomostream.errors import InputError
from tomostream.learn.checkpoint import TrainingState, load_checkpoint, save_checkpoint
from tomostream.learn.training_files import CHECKPOINT_NAME

STATE = TrainingState(1, 10, 0.5, {"w": torch.arange(2000.0)}, {"lr": 0.1}, {"w": torch.zeros(3)}, 1, [{"loss": 1.0}])


def test_every_flipped_bit_is_found(tmp_path):
    save_checkpoint(tmp_path, STATE, {"a": 1})
    file = tmp_path / CHECKPOINT_NAME
    whole = file.read_bytes()
    draw = np.random.default_rng(0)
    for place in draw.integers(0, len(whole) - 39, 60):  # before the mark: without it a checkpoint is one of 0.1
        data = bytearray(whole)
        data[place] ^= 1 << int(draw.integers(0, 8))
        file.write_bytes(data)
        with pytest.raises(InputError, match="remove it to train from the start"):
            load_checkpoint(tmp_path, {"a": 1})
    file.write_bytes(whole)
    found = load_checkpoint(tmp_path, {"a": 1})
    assert found is not None
    assert torch.equal(found.weights["w"], STATE.weights["w"])


def test_a_checkpoint_of_0_1_is_read(tmp_path):
    save_checkpoint(tmp_path, STATE, {"a": 1})
    file = tmp_path / CHECKPOINT_NAME
    file.write_bytes(file.read_bytes()[: -len(b"sha256:") - 32])
    found = load_checkpoint(tmp_path, {"a": 1})
    assert found is not None
    assert found.step == STATE.step


def test_a_checkpoint_of_a_later_version_is_refused_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr("tomostream.learn.checkpoint._FORMAT", 7)
    save_checkpoint(tmp_path, STATE, {"a": 1})
    monkeypatch.undo()
    with pytest.raises(
        InputError, match=r"checkpoint\.pt has format 7, .* reads format 1: a later version wrote it; use that version, or remove it"
    ):
        load_checkpoint(tmp_path, {"a": 1})
