"""Whole commands on URLs: the bytes of a local run, kills, two runs at once, plain web servers, and secrets that stay secret."""

import bz2
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys

import mrcfile
import numpy as np
import pytest
import yaml
from cli_runner import in_process_of_its_own, tomostream
from peak_memory import PEAK
from remote_server import RangeHandler, web_server
from small_project import SPACING, make_project, tree_bytes
from store_files import noise, write_foreign

from tomostream.geometry import Box
from tomostream.store.zarr_opening import open_group
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.tomogram import open_tomogram

pytestmark = pytest.mark.slow

SMALL = ("--shard", "16", "--chunk", "16")
PICK = ("--radius", "6vox", "--count", "12")


TRAINING = {"steps": 2, "steps_per_epoch": 1, "crop": 16, "batch": 2, "precision": "float32"}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """A small project on the local disk, converted, with a model that has learnt nothing."""
    folder = tmp_path_factory.mktemp("local")
    config = make_project(folder, train=TRAINING)
    done = tomostream("run", config, "--stage", "convert", "--stage", "stats")
    assert done.code == 0, done.err
    settings = UNetSettings(
        channels=(4, 8),
        species=("ribosome",),
        radius_ang=(40.0,),
        level=0,
        spacing=SPACING,
        clip_sigma=3.0,
        label_shape="sphere",
        objective={"name": "pn"},
        precision="float32",
        trained_on=("t1",),
        version="0",
        batch_statistics="tomogram",
    )
    save_model(folder / "project/model", ResidualUNet((4, 8), 1, seed=3), settings)
    return folder


def contents(folder):
    return {name: (folder / name).read_bytes() for name in folder.below() if "made-by" not in name}


def local_contents(folder):
    return {name: data for name, data in tree_bytes(folder).items() if "made-by" not in name}


def killed_at(proxy, part, number, *command):
    """Run a command in a process of its own; kill it (SIGKILL) at its n-th PUT of an object with `part` in its name."""
    process = None

    def fault(method, path):
        nonlocal number
        if method == "PUT" and part in path:
            number -= 1
            if number == 0:
                os.kill(process.pid, signal.SIGKILL)

    proxy.fault = fault
    process = subprocess.Popen(
        [sys.executable, "-m", "tomostream", *map(str, command)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGKILL, err.decode()
    proxy.reset()


def test_convert_predict_and_pick_give_the_bytes_of_local_runs(local, bucket, tmp_path):
    for command, name in (
        (("convert", local / "t2.mrc"), "tomograms"),
        (("predict", "{}/tomograms/t2.ome.zarr", "--model", local / "project/model", "--threads", "1"), "scores"),
        (("pick", "{}/scores/t2.ome.zarr", *PICK), "picks"),
        (("labels", "{}/tomograms/t2.ome.zarr", "--points", local / "validate.csv", "--radius", "4vox"), "labels/t2.ome.zarr"),
    ):
        for base in (tmp_path, bucket):
            done = tomostream(*(str(part).format(base) for part in command), "-o", f"{base}/{name}")
            assert done.code == 0, done.err
    here, there = local_contents(tmp_path), contents(bucket)
    assert {name: data for name, data in here.items() if not name.startswith("cache")} == there
    assert len(there["picks/t2.csv"].splitlines()) == 13


def test_a_project_on_an_object_store_is_that_of_a_local_run(bucket, tmp_path):
    local = tmp_path / "local"
    assert tomostream("run", make_project(local, train=TRAINING)).code == 0
    values = yaml.safe_load((local / "run.yaml").read_text())
    shutil.copy(local / "truth.csv", tmp_path)
    (bucket / "in" / "t1.mrc").write_bytes((local / "t1.mrc").read_bytes())
    (bucket / "in" / "t2.mrc").write_bytes((local / "t2.mrc").read_bytes())
    (bucket / "in" / "train.csv").write_bytes((local / "train.csv").read_bytes())
    values |= {"project": f"{bucket}/project", "tomograms": [f"{bucket}/in/*.mrc"]}
    values["labels"]["train"] = [f"{bucket}/in/train.csv"]
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(values))
    done = tomostream("run", config)
    assert done.code == 0, done.err
    project = bucket / "project"
    assert json.loads((project / "evaluation.json").read_text()) == json.loads((local / "project/evaluation.json").read_text())
    here, there = local_contents(local / "project"), contents(project)
    assert {"log.jsonl", "report.html"} <= there.keys()
    arrays = [name for name in here if "/c/" in name or name.endswith((".csv", "model.safetensors"))]
    assert len(arrays) > 8
    for name in arrays:
        assert there[name] == here[name], name
    again = tomostream("run", config, "--stage", "train", "--stage", "pick")
    assert again.code == 0
    assert "already trained" in again.err
    assert tomostream("report", f"{project}", "-o", tmp_path / "report.html").code == 0
    assert tomostream("evaluate", "--picks", f"{project}/picks", "--truth", local / "truth.csv", "--voxel-size", SPACING, "--json").json[
        "pooled"
    ]
    assert tomostream("export", f"{project}/picks", "-o", f"{bucket}/out.star", "--format", "star-relion5", "--tomograms", f"{project}/tomograms/t1.ome.zarr", "--tomograms", f"{project}/tomograms/t2.ome.zarr").code == 0  # fmt: skip
    assert (bucket / "out.star").read_text().count("t2") > 5


def test_a_killed_convert_goes_on_where_it_was(local, proxy, bucket, tmp_path):
    command = ("convert", local / "t2.mrc", *SMALL, "-o")
    killed_at(proxy, "/0/c/", 20, *command, f"{bucket}/out")
    done = len((bucket / "out/t2.ome.zarr/0/c").below())
    assert 15 <= done <= 20
    assert tomostream("inspect", f"{bucket}/out/t2.ome.zarr").code == 2
    assert tomostream(*command, f"{bucket}/out").code == 0
    assert proxy.count("PUT", "/0/c/") == 3 * 4 * 4 - done
    assert tomostream(*command, tmp_path).code == 0
    assert contents(bucket / "out") == {name: data for name, data in local_contents(tmp_path).items() if not name.startswith("cache")}


def test_a_killed_predict_goes_on_where_it_was(local, proxy, bucket, tmp_path):
    command = (
        "predict",
        local / "project/tomograms/t2.ome.zarr",
        "--model",
        local / "project/model",
        "--threads",
        "1",
        "-o",
    )
    other = ("--score-dtype", "float16")
    whole = tomostream(*command, tmp_path / "out")
    assert whole.code == 0, whole.err
    killed_at(proxy, "/0/c/", 1, *command, f"{bucket}/out")
    refused = tomostream(*command, f"{bucket}/out", *other)
    assert refused.code == 2
    assert "--overwrite" in refused.message
    assert tomostream(*command, f"{bucket}/out").code == 0
    assert contents(bucket / "out") == local_contents(tmp_path / "out")


def test_of_two_runs_at_once_the_second_refuses(local, proxy, bucket):
    command = ("convert", str(local / "t2.mrc"), *SMALL, "-o", f"{bucket}/out")
    second = None

    def meanwhile(method, path):
        nonlocal second
        if second is None and method == "PUT" and "/0/c/" in path:
            second = subprocess.Popen(
                [sys.executable, "-m", "tomostream", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
            )

    proxy.fault = meanwhile

    def publish_later(build, group):
        """The first run ends only when the second has."""
        second.wait(timeout=60)
        publish(build, group)

    with pytest.MonkeyPatch.context() as patch:
        from tomostream.store.object_build import ObjectBuild

        publish = ObjectBuild.publish
        patch.setattr(ObjectBuild, "publish", publish_later)
        assert tomostream(*command).code == 0
    _, err = second.communicate(timeout=60)
    assert second.returncode == 2, err
    assert "is being written by another process" in err
    assert open_tomogram(f"{bucket}/out/t2.ome.zarr").shape == (40, 64, 56)


def test_workers_of_a_cluster_open_the_urls_themselves(local, bucket, tmp_path):
    for name in ("t1", "t2"):
        assert tomostream("convert", local / f"{name}.mrc", "-o", f"{bucket}/tomograms").code == 0
    for name in ("model.safetensors", "model.json"):
        (bucket / "model" / name).write_bytes((local / "project/model" / name).read_bytes())
    command = ("predict", f"{bucket}/tomograms/*.ome.zarr", "--model", f"{bucket}/model", "--threads", "1", "-o")
    assert tomostream(*command, tmp_path / "here").code == 0
    done = in_process_of_its_own(*command, f"{bucket}/scores", "--cluster", "local", "--workers", "2", timeout=120)
    assert done.code == 0, done.err
    assert contents(bucket / "scores") == local_contents(tmp_path / "here")


def test_a_missing_bucket_and_wrong_credentials_are_one_line(local, proxy, bucket):
    missing = tomostream("convert", local / "t2.mrc", "-o", "s3://no-such-bucket-here/out")
    assert missing.code == 2
    assert "s3://no-such-bucket-here/out/t2.ome.zarr" in missing.message
    assert "there is no such bucket" in missing.message
    proxy.fault = lambda method, path: "key"
    for command in (("convert", local / "t2.mrc", "-o", f"{bucket}/out"), ("inspect", f"{bucket}/out/t2.ome.zarr")):
        denied = tomostream(*command)
        assert denied.code == 2
        assert "access is denied" in denied.message
        assert "AWS_ACCESS_KEY_ID" in denied.message
        assert len(denied.message.splitlines()) == 1
        assert "tested-secret" not in denied.err + denied.out


def test_an_endpoint_that_is_not_there_is_told_soon(local, bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    done = in_process_of_its_own("convert", local / "t2.mrc", "-o", "s3://bucket/out", timeout=40)
    assert done.code == 2
    assert "can't be reached" in done.message


@pytest.mark.parametrize("separator", [".", "/"])
def test_a_store_of_the_portal_is_read_over_plain_http_without_listings(tmp_path, separator):
    """OME-Zarr 0.4, chunks of a Zarr v2 array, a server that knows neither ranges nor listings of folders without an index."""
    volume = noise(20, 17, 9)
    write_foreign(tmp_path / "run/t.zarr", [volume], version="0.4", scale=10.0)
    if separator == "/":
        array = tmp_path / "run/t.zarr/0"
        metadata = json.loads((array / ".zarray").read_text())
        (array / ".zarray").write_text(json.dumps(metadata | {"dimension_separator": "/"}))
        for chunk in [p for p in array.iterdir() if p.name[0] != "."]:
            target = array.joinpath(*chunk.name.split("."))
            content = chunk.read_bytes()
            chunk.unlink()
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    with web_server(tmp_path) as (url, seen):
        tomogram = open_tomogram(f"{url}/run/t.zarr")
        np.testing.assert_array_equal(tomogram.read(Box((1, 2, 3), (20, 17, 8))), volume[1:20, 2:17, 3:8])
        assert tomogram.spacing == 10.0
        assert not [path for path in seen if path.endswith("/")]
        found = tomostream("stats", f"{url}/run/t.zarr", "-o", tmp_path / "stats", "--json")
        assert found.json[0]["mean"] == pytest.approx(volume.mean(dtype=np.float64))


@pytest.mark.parametrize("pack", [None, gzip, bz2])
def test_an_mrc_file_is_converted_from_a_server_without_ranges(local, tmp_path, pack):
    name = "t2.mrc" + {None: "", gzip: ".gz", bz2: ".bz2"}[pack]
    content = (local / "t2.mrc").read_bytes()
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / name).write_bytes(content if pack is None else pack.compress(content))
    with web_server(tmp_path / "web") as (url, _):
        assert tomostream("inspect", f"{url}/{name}", "--json").json[0]["shape"] == [40, 64, 56]
        done = tomostream("convert", f"{url}/{name}", "-o", tmp_path / "out")
        assert done.code == 0, done.err
        again = tomostream("convert", f"{url}/{name}", "-o", tmp_path / "out")
        assert "already made" in again.err
        missing = tomostream("convert", f"{url}/none.mrc", "-o", tmp_path / "out")
        assert missing.code == 2
        assert f"{url}/none.mrc does not exist" in missing.message
    made = open_tomogram(tmp_path / "out/t2.ome.zarr").read(Box.whole((40, 64, 56)))
    np.testing.assert_array_equal(made, open_tomogram(local / "project/tomograms/t2.ome.zarr").read(Box.whole((40, 64, 56))))


def test_a_truncated_mrc_file_is_told_by_its_url(local, tmp_path):
    (tmp_path / "web").mkdir()
    (tmp_path / "web/t.mrc").write_bytes((local / "t2.mrc").read_bytes()[:-1000])
    with web_server(tmp_path / "web") as (url, _):
        done = tomostream("convert", f"{url}/t.mrc", "-o", tmp_path / "out")
    assert done.code == 2
    assert f"{url}/t.mrc: is truncated" in done.message


def test_no_secret_of_a_url_is_shown_or_kept(local, tmp_path):
    """A password and a presigned URL's signature, in success and in every kind of failure."""
    (tmp_path / "web").mkdir()
    shutil.copy(local / "t2.mrc", tmp_path / "web")
    shutil.copy(local / "truth.csv", tmp_path / "web")
    shutil.copytree(local / "project/tomograms/t2.ome.zarr", tmp_path / "web/t2.ome.zarr")
    secrets = ("geheim", "0a1b2c3d", "anna")
    with web_server(tmp_path / "web", RangeHandler) as (url, _):
        there = url.replace("http://", "http://anna:geheim@")
        signed = "?X-Amz-Credential=anna&X-Amz-Signature=0a1b2c3d"
        out = tmp_path / "out"
        commands = [
            (0, ("convert", f"{there}/t2.mrc{signed}", "-o", out)),
            (2, ("convert", f"{there}/none.mrc{signed}", "-o", out)),
            (0, ("stats", f"{there}/t2.ome.zarr", "-o", out, "--json")),
            (2, ("stats", f"{there}/none.ome.zarr", "-o", out)),
            (2, ("stats", f"{there}/t2.ome.zarr{signed}", "-o", out)),
            (0, ("inspect", f"{there}/t2.ome.zarr", f"{there}/t2.mrc{signed}", "--json")),
            (0, ("inspect", f"{there}/t2.ome.zarr", f"{there}/t2.mrc{signed}")),
            (0, ("labels", f"{there}/t2.ome.zarr", "--points", f"{there}/truth.csv{signed}", "--radius", "4vox", "-o", out / "labels.ome.zarr")),
            (2, ("labels", f"{there}/t2.ome.zarr", "--points", f"{there}/none.csv{signed}", "--radius", "4vox", "-o", out / "labels.ome.zarr")),
            (0, ("pick", f"{there}/t2.ome.zarr", *PICK, "-o", out / "picks")),
        ]  # fmt: skip
        values = yaml.safe_load((local / "run.yaml").read_text())
        values |= {"project": str(out / "project"), "tomograms": [f"{there}/t2.mrc{signed}"], "truth": f"{there}/truth.csv{signed}"}
        config = tmp_path / "run.yaml"
        config.write_text(yaml.safe_dump(values))
        commands += [
            (0, ("run", config, "--stage", "convert", "--stage", "stats")),
            (0, ("run", config, "--dry-run", "--stage", "convert")),
        ]
        for code, command in commands:
            done = tomostream(*command)
            assert done.code == code, (command, done.err)
            for secret in secrets:
                assert secret not in done.out + done.err, (command, done.out + done.err)
    for file in out.rglob("*"):
        if file.is_file() and "/c/" not in str(file):
            text = file.read_bytes()
            assert not [secret for secret in secrets if secret.encode() in text], file
    assert (out / "project/resolved.yaml").read_text().count("***") >= 2


def test_zarr_finds_a_store_of_ours_on_a_server(local, bucket):
    assert tomostream("convert", local / "t2.mrc", "-o", f"{bucket}/out").code == 0
    group = open_group(f"{bucket}/out/t2.ome.zarr")
    np.testing.assert_array_equal(group["0"][...], open_tomogram(local / "project/tomograms/t2.ome.zarr").read(Box.whole((40, 64, 56))))


MEASURED = f"""
import sys
from tomostream.cli.main import main
sys.argv = ["tomostream", *sys.argv[1:]]
try:
    main()
finally:
    print({PEAK})
"""


@pytest.mark.memory
def test_converting_to_an_object_store_stays_within_the_memory(bucket, tmp_path):
    """A shard of 34 MB goes up in parts."""
    rng = np.random.default_rng(0)
    with mrcfile.new_mmap(tmp_path / "t.mrc", shape=(128, 256, 256), mrc_mode=2) as file:
        for plane in file.data:
            plane[...] = rng.normal(size=plane.shape)
        file.voxel_size = 10.0
    command = ("convert", tmp_path / "t.mrc", "-o", f"{bucket}/out", "--memory", "430MB", "--codec", "none")
    done = subprocess.run([sys.executable, "-c", MEASURED, *map(str, command)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) <= 430 * 10**6
