"""Numbers at their edges: missing, infinite, constant and tied voxels, axes of one voxel, primes, the extremes of every type, volumes beyond 2^31.

Every command either gives what a plain loop over the whole array gives, or one message; table-driven.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import zarr
from cli_runner import tomostream
from mrc_files import write_mrc
from picking_oracle import greedy_loop
from store_files import noise, write_foreign, write_store

import tomostream as ts
from tomostream.geometry import Box
from tomostream.learn.batch_norm_folding import deployed
from tomostream.normalisation import PLAIN
from tomostream.store.mrc import read_header
from tomostream.store.mrc_voxels import MrcReader
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.model import UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.tomogram import open_tomogram

RNG = np.random.default_rng(0)
SHAPE = (6, 7, 8)
SPACING = 10.0


def extremes(dtype):
    """Any values of a type, its least and its largest among them."""
    dtype = np.dtype(dtype)
    info = np.iinfo(dtype) if dtype.kind in "iu" else np.finfo(dtype)
    values = RNG.integers(info.min, info.max, SHAPE, dtype, endpoint=True) if dtype.kind in "iu" else RNG.random(SHAPE).astype(dtype)
    values[0, 0, 0], values[1, 1, 1] = info.min, info.max
    return values


def with_holes(hole, fraction):
    return np.where(RNG.random(SHAPE) < fraction, hole, RNG.random(SHAPE)).astype(np.float32)


VOLUMES = {
    "all NaN": np.full(SHAPE, np.nan, np.float32), "all inf": np.full(SHAPE, np.inf, np.float32), "all -inf": np.full(SHAPE, -np.inf, np.float32),
    "constant": np.full(SHAPE, 0.5, np.float32), "zero": np.zeros(SHAPE, np.float32), "minus zero": np.full(SHAPE, -0.0, np.float32),
    "one voxel": np.array([[[0.7]]], np.float32), "a line": RNG.random((1, 1, 13)).astype(np.float32), "a column": RNG.random((13, 1, 1)).astype(np.float32),
    "a plane": RNG.random((1, 7, 11)).astype(np.float32), "primes": RNG.random((5, 7, 11)).astype(np.float32), "two values": RNG.integers(0, 2, SHAPE).astype(np.float32),
    "some NaN": with_holes(np.nan, 0.3), "some inf": with_holes(np.inf, 0.1), "some -inf": with_holes(-np.inf, 0.9),
    "huge": (RNG.random(SHAPE) * 3e38).astype(np.float32), "subnormal": (RNG.random(SHAPE) * 1e-40).astype(np.float32),
    **{f"extremes of {name}": extremes(name) for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float16", "float32")},
}  # fmt: skip
FOREIGN_TYPES = ("int32", "uint32")  # no store of ours has these


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stores")
    found = {}
    for number, (name, volume) in enumerate(VOLUMES.items()):
        path = folder / f"v{number}.ome.zarr"
        if volume.dtype.name in FOREIGN_TYPES:
            found[name] = write_foreign(path, [volume], scale=SPACING)
        else:
            found[name] = write_store(path, volume, chunk=(4, 4, 4), shard=(8, 8, 8), spacing=SPACING, name=f"v{number}")
    return found


def picks_of(folder):
    [table] = folder.glob("*.csv")
    rows = [line.split(",") for line in table.read_text().splitlines()[1:]]
    return [tuple(round(float(row[i]) / SPACING) for i in (4, 3, 2)) for row in rows], [float(row[5]) for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("name", VOLUMES)
@pytest.mark.parametrize(
    ("options", "radius", "wanted"),
    [
        (("--count", 5, "--block-size", 3), 2.0, {"count": 5}), (("--threshold", 0, "--block-size", "1,5,2"), 500.0, {"threshold": 0.0}),
        (("--threshold", 0.5), 1.5, {"threshold": 0.5}),
    ],
)  # fmt: skip
def test_picks_are_those_of_the_plain_loop(stores, tmp_path, name, options, radius, wanted):
    done = tomostream("pick", stores[name], "--radius", f"{radius:g}vox", *options, "-o", tmp_path)
    assert done.code == 0, done.err
    places, scores = picks_of(tmp_path)
    expected_places, expected_scores = greedy_loop(VOLUMES[name], radius, **wanted)
    assert places == [tuple(map(int, place)) for place in expected_places]
    np.testing.assert_array_equal(np.array(scores), expected_scores)


@pytest.mark.parametrize("name", VOLUMES)
def test_statistics_are_numpy_s_or_one_message(stores, tmp_path, name):
    values = VOLUMES[name].astype(np.float64)
    values = values[np.isfinite(values)]
    done = tomostream("stats", stores[name], "-o", tmp_path, "--json")
    if not values.size:
        assert (done.code, "none of the volume's 336 voxels is finite" in done.message) == (2, True)
        return
    assert done.code == 0, done.err
    [found] = done.json
    assert (found["finite"], found["total"]) == (values.size, VOLUMES[name].size)
    assert abs(found["mean"] - values.mean()) <= 1e-6 * values.std() + 1e-300
    assert found["std"] == pytest.approx(values.std(), rel=1e-6, abs=0)
    if values.std() > 0:
        clipped = np.clip((values - values.mean()) / values.std(), -3, 3)
        assert abs(found["clipped_mean"] - clipped.mean()) <= 1e-6 * clipped.std()
        assert found["clipped_std"] == pytest.approx(clipped.std(), rel=1e-6)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model folder, and its network."""
    folder = tmp_path_factory.mktemp("model")
    network = ResidualUNet((4, 8), 1, seed=0)
    settings = UNetSettings(
        channels=(4, 8), species=("a",), radius_ang=(40.0,), level=0, spacing=SPACING, clip_sigma=3.0, label_shape="sphere", objective={"name": "pn"},
        precision="float32", trained_on=(), version="0", batch_statistics="training", normalisation=PLAIN,
    )  # fmt: skip
    save_model(folder, network, settings, TrainingSummary(best_epoch=1))
    return folder, deployed(network)


@pytest.mark.slow
@pytest.mark.parametrize("name", VOLUMES)
def test_scores_are_those_of_the_network_on_the_whole_volume_or_there_is_one_message(stores, model, tmp_path, name):
    folder, network = model
    out = tmp_path / "out"
    done = tomostream("predict", stores[name], "--model", folder, "-o", out, "--block-size", 4, "--device", "cpu", "--threads", 1)
    values = VOLUMES[name].astype(np.float64)
    is_finite = np.isfinite(values)
    if not is_finite.any() or values[is_finite].std() == 0:
        assert done.code == 2
        assert "none of the volume's 336 voxels is finite" in done.message or "is constant" in done.message
        assert not list(tmp_path.glob("out/*.zarr"))
        return
    assert done.code == 0, done.err
    standard = np.clip((values - values[is_finite].mean()) / values[is_finite].std(), -3, 3)
    whole = np.where(is_finite, (standard - standard[is_finite].mean()) / standard[is_finite].std(), 0)
    whole = np.pad(whole, [(0, n % 2) for n in whole.shape], mode="edge")  # to the network's stride
    with torch.no_grad():
        logits = network(torch.from_numpy(whole.astype(np.float32))[None, None])[0, 0].numpy()
    found = open_tomogram(out / Path(stores[name]).name).read(Box.whole(values.shape))
    assert np.abs(found - 1 / (1 + np.exp(-logits[tuple(map(slice, values.shape))].astype(np.float64)))).max() < 1e-4


@pytest.mark.parametrize(("command", "option"), [
    (("labels", "STORE", "--points", "p.csv", "-o", "out.ome.zarr"), "--radius"), (("pick", "STORE", "--count", 5, "-o", "out"), "--radius"),
    (("evaluate", "--picks", "p.csv", "--truth", "p.csv", "--tomograms", "STORE"), "--tolerance"),
])  # fmt: skip
@pytest.mark.parametrize("length", ["0vox", "0A", "-1vox", "nanA", "infvox", "1e400vox"])
def test_lengths_that_can_not_be_are_refused_by_each_command(stores, tmp_path, monkeypatch, command, option, length):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("x_voxel,y_voxel,z_voxel\n3,3,3\n")
    done = tomostream(*(stores["primes"] if one == "STORE" else one for one in command), option, length)
    assert done.code == 2
    assert "above zero and finite" in done.message or "is not a length" in done.message
    assert [path.name for path in tmp_path.iterdir()] == ["p.csv"]


@pytest.mark.parametrize("shape", ["sphere", "cube"])
@pytest.mark.parametrize("radius", ["500vox", "1e9vox", "1e300A"])
def test_a_label_larger_than_the_volume_fills_it_and_is_told(stores, tmp_path, shape, radius):
    points, out = tmp_path / "p.csv", tmp_path / "l.ome.zarr"
    points.write_text("x_voxel,y_voxel,z_voxel\n3,3,3\n")
    done = tomostream("labels", stores["primes"], "--points", points, "--radius", radius, "--shape", shape, "-o", out)
    assert (done.code, "one label fills it" in done.err) == (0, True), done.err
    assert (open_tomogram(out).read(Box.whole((5, 7, 11))) == 1).all()


@pytest.mark.parametrize("matching", ["any", "one-to-one"])
@pytest.mark.parametrize(("tolerance", "tp"), [("1e-9A", 1), ("500vox", 2), ("1e300A", 2)])
def test_a_tolerance_of_nothing_or_larger_than_the_volume_matches_what_it_says(stores, tmp_path, matching, tolerance, tp):
    head = "tomogram,species,x_angstrom,y_angstrom,z_angstrom,score\n"
    name = Path(stores["primes"]).name.split(".")[0]
    for table, x in (("p.csv", 50), ("t.csv", 51)):
        (tmp_path / table).write_text(f"{head}{name},a,30,30,20,1\n{name},a,{x},30,20,0.5\n")
    done = tomostream(
        "evaluate", "--picks", tmp_path / "p.csv", "--truth", tmp_path / "t.csv", "--tolerance", tolerance,
        "--tomograms", stores["primes"], "--matching", matching, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    pooled = done.json["pooled"]
    assert [pooled[key] for key in ("tp", "fp", "fn")] == [tp, 2 - tp, 2 - tp]


@pytest.mark.parametrize("dtype", ["float64", "int64", "uint64"])
def test_types_of_64_bits_are_read_and_others_refused(tmp_path, dtype):
    values = (RNG.random(SHAPE) * 100).astype(dtype)
    path = write_foreign(tmp_path / "t.ome.zarr", [values], scale=SPACING)
    done = tomostream("pick", path, "--radius", "2vox", "--count", 4, "-o", tmp_path / "p")
    assert done.code == 0, done.err
    places, scores = picks_of(tmp_path / "p")
    expected_places, expected_scores = greedy_loop(values.astype(np.float64), 2.0, count=4)
    assert (places, scores) == ([tuple(map(int, place)) for place in expected_places], list(expected_scores))
    for other in ("bool", "complex64"):
        path = write_foreign(tmp_path / f"{other}.ome.zarr", [values.astype(other)], scale=SPACING)
        for command in (("inspect", path), ("stats", path), ("pick", path, "--radius", "2vox", "--count", 4, "-o", tmp_path / "q")):
            done = tomostream(*command)
            assert (done.code, f"voxels of type {other}" in done.message) == (2, True), done.err


@pytest.mark.parametrize("name", VOLUMES)
def test_inspect_and_check_have_a_word_for_each(stores, name):
    for command in ("inspect", "check"):
        done = tomostream(command, stores[name])
        assert done.code == 0, done.err + done.out
        assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--radius", "0vox", "--count", 5), "above zero and finite"), (("--radius", "-1vox", "--count", 5), "is not a length"),
        (("--radius", "1e400vox", "--count", 5), "above zero and finite"), (("--radius", "infA", "--count", 5), "is not a length"),
        (("--radius", "nanvox", "--count", 5), "is not a length"), (("--radius", "5", "--count", 5), "unit"),
        (("--radius", "2vox", "--count", 0), "at least 1, found 0"), (("--radius", "2vox", "--count", 10**9), "picks need"),
        (("--radius", "2vox", "--threshold", "nan"), "must be a number, found nan"), (("--radius", "2vox", "--count", 5, "--smooth", "0vox"), "above zero"),
        (("--radius", "2vox", "--count", 5, "--border", "500vox"), "no voxel is left"), (("--radius", "2vox", "--count", 5, "--box", "0:100,0:1,0:1"), "leaves tomogram"),
        (("--radius", "2vox", "--count", 5, "--block-size", 0), "positive"),
    ],
)  # fmt: skip
def test_numbers_that_can_not_be_are_refused(stores, tmp_path, arguments, words):
    done = tomostream("pick", stores["primes"], *arguments, "-o", tmp_path / "out")
    assert (done.code, words in done.message) == (2, True), done.err
    assert not list(tmp_path.glob("out/*.csv"))


@pytest.mark.parametrize(("name", "dtype", "words"), [
    ("all NaN", "int8", "not finite"), ("some inf", "int8", "not finite"), ("huge", "float16", "float16 ends at 65504"), ("huge", "int8", ""), ("constant", "int8", ""),
    ("one voxel", "int8", ""), ("some NaN", "float16", ""), ("all NaN", "keep", ""), ("a line", "float16", ""),
])  # fmt: skip
def test_a_type_that_can_not_hold_the_voxels_is_refused_and_others_hold_them(tmp_path, name, dtype, words):
    source = write_mrc(tmp_path / "t.mrc", VOLUMES[name], spacing=SPACING)
    done = tomostream("convert", source, "-o", tmp_path / "out", "--dtype", dtype)
    if words:
        assert (done.code, words in done.message) == (2, True), done.err
        assert not (tmp_path / "out" / "t.ome.zarr").exists()
        return
    assert done.code == 0, done.err
    stored = open_tomogram(tmp_path / "out" / "t.ome.zarr").read(Box.whole(VOLUMES[name].shape))
    if dtype == "int8":
        values = VOLUMES[name].astype(np.float64)
        assert np.abs(stored).max() <= 127
        if values.std() > 0:
            assert np.abs(stored - np.clip(np.round(32 * (values - values.mean()) / values.std()), -127, 127)).max() <= 1
    else:
        np.testing.assert_array_equal(stored, VOLUMES[name].astype(stored.dtype))


@pytest.mark.parametrize("command", [
    ("inspect",), ("stats",), ("pick", "--radius", "20A", "--count", 3, "-o", "p"), ("pick", "--radius", "2vox", "--count", 3, "-o", "p"),
    ("labels", "--points", "p.csv", "--radius", "2vox", "-o", "l.ome.zarr"),
])  # fmt: skip
def test_voxels_that_are_no_cubes_are_refused_with_a_clear_word(tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.csv").write_text("x_voxel,y_voxel,z_voxel\n1,1,1\n")
    write_foreign(tmp_path / "a.zarr", [noise(8, 9, 10)], scale=(20.0, 10.0, 10.0))
    done = tomostream(command[0], "a.zarr", *command[1:])
    assert (done.code, "voxels of 20 x 10 x 10 angstrom (z, y, x)" in done.message) == (2, True)
    source = write_mrc(tmp_path / "a.mrc", noise(8, 9, 10))
    data = bytearray(source.read_bytes())
    data[48:52] = np.float32(20.0 * 8).tobytes()  # the cell's z edge
    source.write_bytes(data)
    done = tomostream("convert", "a.mrc", "-o", "out")
    assert (done.code, "the voxels are not cubes" in done.message) == (2, True)


@pytest.fixture(scope="module")
def giant(tmp_path_factory):
    """4096^3 voxels, 69 GB, of which three chunks are there."""
    path = tmp_path_factory.mktemp("giant") / "giant.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    array = group.create_array("0", shape=(4096,) * 3, chunks=(64,) * 3, dtype="u1", fill_value=0)
    array[4090, 4091, 4092], array[4000, 4001, 4002], array[10, 11, 12] = 200, 100, 50
    scale = [{"type": "scale", "scale": [SPACING] * 3}]
    axes = [{"name": name, "type": "space", "unit": "angstrom"} for name in "zyx"]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}],
    }
    return path


def test_places_beyond_two_to_the_31_are_picked_where_they_are(giant, tmp_path):
    box = "3968:4096,3900:4096,3970:4096"
    for block in (60, 128):
        done = tomostream(
            "pick", giant, "--radius", "4vox", "--threshold", 20, "--box", box, "--block-size", block, "-o", tmp_path / str(block)
        )
        assert done.code == 0, done.err
        assert picks_of(tmp_path / str(block)) == ([(4090, 4091, 4092), (4000, 4001, 4002)], [200.0, 100.0])


def test_arrays_beyond_two_to_the_31_are_lazy(giant):
    tomogram = ts.open(giant)
    assert tomogram.array.shape == (4096,) * 3
    assert int(tomogram.array[4090, 4091, 4092].compute()) == 200
    far = np.array([[4090.4, 4091.0, 4092.9]])
    mask = ts.label_mask(far, tomogram.shape, radius=3.0)
    piece = np.asarray(mask[4080:, 4080:, 4080:])
    z, y, x = np.ogrid[4080:4096, 4080:4096, 4080:4096]
    np.testing.assert_array_equal(piece, (z - far[0, 0]) ** 2 + (y - far[0, 1]) ** 2 + (x - far[0, 2]) ** 2 <= 9)


def test_a_store_of_69_gigabytes_is_inspected_at_once(giant):
    done = tomostream("inspect", giant, "--json")
    assert done.code == 0
    [found] = json.loads(done.out)
    assert found["shape"] == [4096] * 3


def test_bytes_beyond_two_to_the_31_of_an_mrc_file_are_read(tmp_path):
    header = bytearray(write_mrc(tmp_path / "small.mrc", np.zeros((1, 1, 1), np.int8)).read_bytes()[:1024])
    shape = (2200, 1024, 1024)
    header[0:12] = np.array(shape[::-1], "<i4").tobytes()
    header[28:40] = np.array(shape[::-1], "<i4").tobytes()
    header[40:52] = (np.array(shape[::-1], "<f4") * SPACING).tobytes()
    path = tmp_path / "long.mrc"
    with path.open("wb") as file:
        file.write(header)
        file.truncate(1024 + int(np.prod(shape, dtype=np.int64)))  # a hole: it takes no space
        file.seek(1024 + (2199 * 1024 + 1023) * 1024 + 1020)
        file.write(bytes([1, 2, 3, 4]))
    with MrcReader(read_header(path)) as reader:
        assert reader.read(Box((2199, 1023, 1018), (2200, 1024, 1024))).ravel().tolist() == [0, 0, 1, 2, 3, 4]
