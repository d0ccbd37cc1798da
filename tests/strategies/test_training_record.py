"""`training.json` keeps what a model is trained from, says its format, and one of a later format is refused."""

import json

import pytest

from tomostream.errors import InputError
from tomostream.strategies.training_record import adopted_training, read_training_record, write_training_record

MADE_FROM = {"species": ["ribosome"], "level": 1}


def test_what_was_recorded_reads_back_without_the_format(tmp_path):
    write_training_record(tmp_path, MADE_FROM)
    assert json.loads((tmp_path / "training.json").read_text()) == {"format": 1, **MADE_FROM}
    assert read_training_record(tmp_path) == MADE_FROM


def test_a_record_of_version_0_1_has_no_format(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps(MADE_FROM))
    assert read_training_record(tmp_path) == MADE_FROM
    assert adopted_training(tmp_path, {**MADE_FROM, "level": 2}) == {**MADE_FROM, "level": 2}


def test_a_damaged_record_is_none_and_a_missing_one_is_told_apart(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_training_record(tmp_path)
    assert adopted_training(tmp_path, MADE_FROM) == MADE_FROM
    (tmp_path / "training.json").write_text("{")
    assert read_training_record(tmp_path) is None


def test_a_record_of_a_later_version_is_refused_in_words(tmp_path):
    (tmp_path / "training.json").write_text(json.dumps({"format": 2, **MADE_FROM}))
    with pytest.raises(
        InputError, match=r"training\.json has format 2, this version of tomostream reads format 1: a later version wrote it; use"
    ):
        read_training_record(tmp_path)


@pytest.mark.parametrize("found", ["2", 0, 1.0, None, True])
def test_what_is_no_format_is_damage(tmp_path, found):
    (tmp_path / "training.json").write_text(json.dumps({"format": found, **MADE_FROM}))
    with pytest.raises(InputError, match=r"training\.json is damaged or was changed: its format must be 1, found"):
        read_training_record(tmp_path)
