"""A model folder comes back as it was, byte for byte; a broken one is one clear error."""

import pytest
import torch
from model_records import rewrite_record

from tomostream.errors import InputError
from tomostream.strategies.model_folder import SETTINGS_NAME, WEIGHTS_NAME, TrainingSummary
from tomostream.strategies.unet.model import UNetSettings, load_model, save_model
from tomostream.strategies.unet.network import ResidualUNet

SETTINGS = UNetSettings(
    channels=(2, 4),
    species=("ribosome", "fas"),
    radius_ang=(135.0, 130.0),
    level=1,
    spacing=13.48,
    clip_sigma=3.0,
    label_shape="sphere",
    objective={"name": "kl", "weight": 10.0, "order": "prior_to_pu"},
    precision="bf16",
    trained_on=("DEF_01",),
    version="0.1.0",
)


@pytest.fixture
def network() -> ResidualUNet:
    network = ResidualUNet((2, 4), 2, seed=7)
    network.train()(torch.randn(2, 1, 8, 8, 8, generator=torch.Generator().manual_seed(0)))
    return network.eval()


def test_model_comes_back_as_it_was(tmp_path, network):
    save_model(tmp_path / "model", network, SETTINGS, TrainingSummary(best_epoch=3))
    model = load_model(tmp_path / "model")
    image = torch.randn(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(model.network(image), network(image))
        assert torch.allclose(model.deployed(image), network(image), atol=1e-5)
    assert model.settings == SETTINGS
    assert model.summary == TrainingSummary(best_epoch=3)
    assert model.folder == tmp_path / "model"
    assert not model.network.training
    assert model.deployed is model.deployed


def test_same_model_gives_the_same_bytes(tmp_path, network):
    save_model(tmp_path / "a", network, SETTINGS)
    save_model(tmp_path / "b", network.to(memory_format=torch.channels_last_3d), SETTINGS)
    for name in (WEIGHTS_NAME, SETTINGS_NAME):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [SETTINGS_NAME, WEIGHTS_NAME]


def test_missing_folder_and_missing_files_are_refused(tmp_path, network):
    with pytest.raises(InputError, match="does not exist"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"lacks model\.json"):
        load_model(tmp_path)
    save_model(tmp_path, network, SETTINGS)
    (tmp_path / WEIGHTS_NAME).unlink()
    with pytest.raises(InputError, match=r"lacks model\.safetensors"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"3", b"null", b"\xff\xfe", b'{"format": 99}', b'{"format": 1}'])
def test_foreign_settings_are_refused(tmp_path, network, content):
    save_model(tmp_path, network, SETTINGS)
    (tmp_path / SETTINGS_NAME).write_bytes(content)
    with pytest.raises(InputError, match="model"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"channels": [2, 8]},
        {"channels": []},
        {"channels": "many"},
        {"species": ["ribosome"]},
        {"spacing": None},
        {"spacing": -1},
        {"objective": 3},
        {"objective": {"name": [1]}},
    ],
)
def test_settings_that_do_not_fit_the_weights_are_refused(tmp_path, network, change):
    save_model(tmp_path, network, SETTINGS)
    rewrite_record(tmp_path, lambda values: values["settings"].update(change))
    with pytest.raises(InputError) as refused:
        load_model(tmp_path)
    assert "seal" not in str(refused.value)


def test_setting_that_is_missing_is_refused(tmp_path, network):
    save_model(tmp_path, network, SETTINGS)
    rewrite_record(tmp_path, lambda values: values["settings"].pop("clip_sigma"))
    with pytest.raises(InputError, match="clip_sigma"):
        load_model(tmp_path)


def test_weights_of_another_model_are_recognised(tmp_path, network):
    save_model(tmp_path / "a", network, SETTINGS)
    save_model(tmp_path / "b", ResidualUNet((2, 4), 2, seed=8), SETTINGS)
    (tmp_path / "a" / WEIGHTS_NAME).write_bytes((tmp_path / "b" / WEIGHTS_NAME).read_bytes())
    with pytest.raises(InputError, match="hash"):
        load_model(tmp_path / "a")


def test_truncated_weights_are_recognised(tmp_path, network):
    save_model(tmp_path, network, SETTINGS)
    whole = (tmp_path / WEIGHTS_NAME).read_bytes()
    (tmp_path / WEIGHTS_NAME).write_bytes(whole[:-10])
    with pytest.raises(InputError, match="half-written"):
        load_model(tmp_path)


def test_folder_that_can_not_be_written_is_one_clear_error(tmp_path, network):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="can't be written"):
        save_model(tmp_path / "file", network, SETTINGS)
