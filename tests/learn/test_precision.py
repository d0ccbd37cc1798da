"""`auto` follows the processor; names that are not known are refused."""

import pytest
import torch

from tomostream.errors import InputError
from tomostream.learn import precision
from tomostream.learn.precision import autocast, processor_features, resolve_device, resolve_precision

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx512f avx512_bf16 amx_tile\n", "bf16"),
        ("processor : 0\nflags\t\t: fpu avx2 avx512f\n", "float32"),
        ("processor : 0\nFeatures\t: fp asimd bf16 i8mm\n", "bf16"),
        ("nothing of the kind", "float32"),
        (None, "float32"),
    ],
)
def test_auto_is_bf16_where_the_processor_has_it(tmp_path, monkeypatch, facts, expected):
    path = tmp_path / "cpuinfo"
    if facts is not None:
        path.write_text(facts)
    monkeypatch.setattr(precision, "processor_features", lambda: processor_features(path))
    assert resolve_precision("auto", CPU) == expected


@pytest.mark.parametrize(("takes_bf16", "expected"), [(True, "bf16"), (False, "float32")])
def test_named_precision_is_kept_where_the_processor_can(monkeypatch, takes_bf16, expected):
    monkeypatch.setattr(precision, "onednn_takes", lambda dtype: takes_bf16)
    assert resolve_precision("bf16", CPU) == expected
    assert resolve_precision("float32", CPU) == "float32"


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"auto, float32, bf16, found 'half'"):
        resolve_precision("half", CPU)
    with pytest.raises(InputError, match="found 'tpu'"):
        resolve_device("tpu")


def test_missing_gpu_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="not available"):
        resolve_device("cuda")
    assert resolve_device("auto") == CPU


def test_autocast_rounds_convolutions_only_where_asked():
    layer, image = torch.nn.Conv3d(1, 1, 1), torch.zeros(1, 1, 2, 2, 2)
    for name, dtype in (("float32", torch.float32), ("bf16", torch.bfloat16)):
        with autocast(CPU, name):
            assert layer(image).dtype == dtype
