"""What predict does beside a GPU, with the processor in the GPU's place: several shards at once, and the scores of the processor's own way."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from mrc_files import write_mrc

import tomostream as ts
from tomostream.cluster import Resources
from tomostream.geometry import Box
from tomostream.inference import device_scores
from tomostream.inference.plan import PredictionPlan
from tomostream.progress import Progress
from tomostream.stages.prediction import overlap, stage
from tomostream.stages.prediction.stage import PredictSettings, predict_many
from tomostream.strategies.model_folder import TrainingSummary
from tomostream.strategies.unet.device_scorer import DeviceFusedScorer
from tomostream.strategies.unet.fusion import MatchedSettings
from tomostream.strategies.unet.model import UNetModel, UNetSettings, save_model
from tomostream.strategies.unet.network import ResidualUNet
from tomostream.strategies.unet.scorer import StreamedNetwork

pytestmark = pytest.mark.slow

SPACING = 10.0
MATCHED = MatchedSettings(support_vox=(4.3,), floor=0.4, weight=(6.0,), intercept=(-1.0,), smooth_vox=1.6)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tomogram")
    volume = np.random.default_rng(0).normal(size=(40, 320, 320)).astype(np.float32)  # scores of four shards
    write_mrc(folder / "wide.mrc", volume, spacing=SPACING)
    ts.convert(folder / "wide.mrc", folder / "tomograms")
    return folder / "tomograms" / "wide.ome.zarr"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "model"
    network = ResidualUNet((4, 8), 1, seed=0)
    with torch.no_grad():
        network.head.weight.mul_(30)
    settings = UNetSettings(
        channels=(4, 8), species=("blob",), radius_ang=(40.0,), level=1, spacing=SPACING, clip_sigma=5.0, label_shape="sphere",
        objective={"name": "none"}, precision="float32", trained_on=(), version="0", matched=MATCHED, batch_statistics="tomogram",
    )  # fmt: skip
    save_model(folder, network.eval(), settings, TrainingSummary(), (np.cos(np.linspace(0, np.pi, 5)),))
    return folder


@pytest.fixture
def as_if_there_were_a_gpu(monkeypatch):
    """A processor that says that it is a GPU; returns the threads that computed."""

    def scorer(self, *, device, precision, threads, gpu_memory=None):
        network = StreamedNetwork(self.deployed, device="cpu", precision=precision, threads=threads)
        return DeviceFusedScorer(network, MATCHED, self.profiles)

    processor = torch.device("cpu")
    for module in (
        "tomostream.inference.machine",
        "tomostream.stages.prediction.overlap",
        "tomostream.learn.precision",
    ):
        monkeypatch.setattr(f"{module}.resolve_device", lambda name: processor)
    monkeypatch.setattr(stage, "_wants_gpu", lambda device, resources: True)
    usual = UNetModel.scorer
    monkeypatch.setattr(UNetModel, "scorer", lambda self, **given: (usual if given["device"] == "cpu" else scorer)(self, **given))
    names = set()
    compute = device_scores._compute

    def watched(*arguments):
        names.add(threading.current_thread().name)
        compute(*arguments)

    monkeypatch.setattr(device_scores, "_compute", watched)
    return names


def predicted(store, model, out, *, memory=4 * 10**9, device="cuda", **settings):
    predict_many(
        {"wide": str(store)}, model=model, out=out, settings=PredictSettings(device=device, block_size=(40, 64, 64), **settings),
        resources=Resources(memory=memory, threads=1), overwrite=False, progress=Progress(),
    )  # fmt: skip
    return ts.open(out / "wide.ome.zarr").array.compute()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_scores_are_the_processors(dtype, store, model, tmp_path, as_if_there_were_a_gpu):
    settings = {"score_dtype": dtype, "box": Box((3, 0, 10), (40, 250, 270))}
    found = predicted(store, model, tmp_path / "device", **settings)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stage, "_wants_gpu", lambda device, resources: False)
        expected = predicted(store, model, tmp_path / "processor", device="cpu", **settings)
    assert found.dtype == expected.dtype
    assert expected[3:40, :250, 10:270].astype(float).std() > (0.05 if dtype == "float32" else 10)
    np.testing.assert_array_equal(np.isnan(found.astype(float)), np.isnan(expected.astype(float)))
    np.testing.assert_allclose(found.astype(float), expected.astype(float), rtol=0, atol=1e-4 if dtype == "float32" else 1)


def test_shards_overlap_and_the_bytes_do_not_depend_on_it(store, model, tmp_path, monkeypatch, as_if_there_were_a_gpu):
    found = []
    for count in (1, 4):
        as_if_there_were_a_gpu.clear()
        monkeypatch.setattr(overlap, "shards_at_once", lambda plans, *, memory, gpu_memory, count=count: count)
        found.append(predicted(store, model, tmp_path / str(count)))
        assert (len(as_if_there_were_a_gpu) > 1) == (count > 1)
        print(count, "at once:", sorted(as_if_there_were_a_gpu))
    assert found[0].tobytes() == found[1].tobytes()


def test_as_many_shards_are_in_work_as_fit_both_memories(monkeypatch):
    monkeypatch.setattr(overlap, "resolve_device", lambda name: torch.device("cpu"))
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    plan = PredictionPlan(
        volume=(500, 1000, 1000), level=1, stride=4, radius=20, chunk=(64, 64, 64), shard=(512, 512, 512), core=(512, 512, 512), species=1,
        block_bytes=1_500_000_000,
    )  # fmt: skip
    assert overlap.shards_at_once([plan], memory=1_500_000_000, gpu_memory=10**11) == 1
    assert overlap.shards_at_once([plan], memory=2_600_000_000, gpu_memory=10**11) == 2
    assert overlap.shards_at_once([plan], memory=16 * 10**9, gpu_memory=10**11) == 4
    assert overlap.shards_at_once([plan], memory=16 * 10**9, gpu_memory=10**9) == 1
    larger = replace(plan, block_bytes=10**10)
    assert overlap.shards_at_once([plan, larger], memory=16 * 10**9, gpu_memory=10**11) == 1
