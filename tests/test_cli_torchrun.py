"""`train` under torchrun: one process is allowed, several are refused before the configuration is read."""

from pathlib import Path

import pytest

from tomostream.cli import learning
from tomostream.errors import InputError


@pytest.mark.parametrize("processes", ["2", "8"])
def test_train_refuses_several_torchrun_processes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processes: str) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", processes)
    with pytest.raises(InputError, match=f"torchrun started {processes}"):
        learning.train(tmp_path / "absent.yaml")


def test_one_torchrun_process_goes_on_to_the_configuration(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "1")
    with pytest.raises(InputError, match=r"absent\.yaml"):
        learning.train(tmp_path / "absent.yaml")
