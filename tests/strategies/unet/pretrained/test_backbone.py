"""The shipped backbone is the recorded one, small, and refused when damaged."""

import importlib.resources
import json

import numpy as np
import pytest
import torch

from tomostream.errors import InputError
from tomostream.strategies.unet.pretrained.backbone import read_backbone, shipped_backbone
from tomostream.strategies.unet.pretrained.settings import CHANNELS, SHA256

FILES = importlib.resources.files("tomostream.strategies.unet.pretrained")


def test_the_file_is_small_and_the_one_that_is_recorded():
    content = (FILES / "backbone.safetensors").read_bytes()
    record = json.loads((FILES / "backbone.json").read_text())
    assert len(content) < 4_000_000
    assert record["sha256"] == SHA256
    assert tuple(record["settings"]["channels"]) == CHANNELS


def test_a_changed_byte_is_told():
    content = bytearray((FILES / "backbone.safetensors").read_bytes())
    content[-1] ^= 1
    with pytest.raises(InputError, match=r"backbone here is damaged.*install tomostream again"):
        read_backbone(bytes(content), "here")


def test_a_head_is_a_linear_map_of_the_features():
    backbone = shipped_backbone()
    rng = np.random.default_rng(0)
    weights, biases = rng.normal(size=(2, CHANNELS[0])), rng.normal(size=2)
    image = torch.randn(1, 1, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = backbone.features()(image)[0].double().numpy()
        logits = backbone.with_head(weights, biases)(image)[0].double().numpy()
    np.testing.assert_allclose(logits, np.tensordot(weights, features, axes=1) + biases[:, None, None, None], atol=1e-3)


def test_every_weight_of_the_body_is_the_pretrained_one():
    backbone = shipped_backbone()
    network = backbone.features()
    for name, value in network.state_dict().items():
        if not name.startswith("head.") and not name.endswith("num_batches_tracked"):
            assert torch.equal(value, backbone.body[name]), name
