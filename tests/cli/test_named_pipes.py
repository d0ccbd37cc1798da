"""Named pipes in the place of files: one message, and no waiting.  (What is wrong here hangs: `limited` does not end a wait, the test's own limit does.)"""

import os
import shutil
import subprocess
import sys

import pytest
from cli_runner import tomostream
from store_files import noise, write_store

TABLE = "tomogram,species,x_voxel,y_voxel,z_voxel\nt,a,5,5,5\n"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_store(tmp_path / "t.ome.zarr", noise(16, 16, 16))
    for name in ("c.yaml", "c.csv", "c.star", "c.parquet"):
        os.mkfifo(name)
    (tmp_path / "model").mkdir()
    os.mkfifo("model/model.json")
    for name, part in (("head", "zarr.json"), ("chunk", "0/c/0/0/0")):
        path = shutil.copytree("t.ome.zarr", f"{name}.ome.zarr")
        os.unlink(f"{path}/{part}")
        os.mkfifo(f"{path}/{part}")
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        "run c.yaml", "train c.yaml", "evaluate --picks c.csv --truth c.csv --tolerance 4vox", "export c.csv -o o.star --format star-relion5",
        "import c.star --format star-relion5 -o o.csv", "import c.parquet --format parquet -o o.csv", "orient c.csv --clicks c.csv --tomograms t.ome.zarr --radius 4vox -o o.csv", "labels t.ome.zarr --points c.csv --radius 4vox -o o.ome.zarr",
        "inspect head.ome.zarr", "stats head.ome.zarr", "check head.ome.zarr", "check chunk.ome.zarr", "stats chunk.ome.zarr",
        "pick chunk.ome.zarr --radius 2vox --count 1 -o o", "predict t.ome.zarr --model model -o o", "check model",
    ],
)  # fmt: skip
def test_a_named_pipe_is_refused_at_once(place, command):
    done = tomostream(*command.split())
    assert done.code == 2, done.err
    assert any(words in done.out + done.err for words in ("named pipe", "is not a Parquet table", "has nothing to check"))


def test_a_table_can_be_read_from_a_command_of_the_shell(place):
    (place / "p.csv").write_text(TABLE)
    command = f"{sys.executable} -m tomostream evaluate --picks p.csv --truth <(cat p.csv) --truth-format csv --tolerance 4vox --json"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert "named pipe" not in done.stderr


@pytest.mark.parametrize("command", [("check", "/dev/zero"), ("run", "/dev/zero"), ("inspect", "/dev/zero"), ("check", "/dev/full")])
def test_a_device_is_no_file(command):
    done = tomostream(*command)
    assert done.code == 2
    assert "finished work is kept" not in done.err
