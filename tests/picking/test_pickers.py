"""Pickers are found by their names, ours and another package's; each keeps the promises of `Picker`."""

import importlib
import sys
from dataclasses import replace

import numpy as np
import pytest
from picking_requests import asked, volume

from tomostream import catalogue
from tomostream.catalogue import PICKERS
from tomostream.errors import InputError
from tomostream.picking.how_many import AsManyAs, Best
from tomostream.picking.pickers import picker, picker_names
from tomostream.progress import Progress

RADIUS = 4.0


def blobs(seed=0):
    """Smooth hills on a ground of noise, probabilities."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    ground = gaussian_filter(rng.normal(size=(24, 40, 44)), 2.0)
    return (1 / (1 + np.exp(-6 * ground / ground.std() + 6))).astype(np.float32)


def picked(name, scores, **settings):
    request, execution = asked(**{"radius": RADIUS, "memory": 10**9, **settings})
    return picker(name).pick(replace(volume(scores), values="probability"), request, execution, Progress())


def test_ours_are_there_under_their_names():
    assert picker_names() == ["greedy", "mean-pool", "trace"]
    assert [picker(name).name for name in picker_names()] == picker_names()


@pytest.mark.parametrize("name", sorted(set(picker_names()) - {"greedy"}))
def test_where_the_scores_cant_choose_the_expected_number_is_the_count(name):
    np.testing.assert_array_equal(picked(name, blobs(), expected=5).index_zyx, picked(name, blobs(), count=5).index_zyx)


def test_greedy_takes_as_many_of_the_best_as_the_scores_say():
    scores = np.full((24, 60, 60), 0.01, dtype=np.float32)
    scores += np.random.default_rng(0).random(scores.shape).astype(np.float32) / 50
    for i in range(30):
        scores[8 + 8 * (i % 2), 5 + 10 * (i // 2 % 5), 5 + 15 * (i // 10)] = 0.9 + i / 1000
    said, once, kept = [], [], []
    progress = Progress()
    progress.say, progress.say_once = said.append, once.append
    progress.record = lambda event, **facts: kept.append((event, facts))
    request, execution = asked(radius=RADIUS, memory=10**9)
    source = replace(volume(scores), values="probability", name="t1")
    picks = picker("greedy").pick(source, replace(request, how_many=AsManyAs(25)), execution, progress)
    best = picker("greedy").pick(source, replace(request, how_many=Best(len(picks))), execution, progress)
    np.testing.assert_array_equal(picks.index_zyx, best.index_zyx)
    assert 25 <= len(picks) <= 30
    assert said[0].startswith(f"t1: {len(picks)} picks chosen")
    assert "can't be told" not in said[0]
    [(event, facts)] = kept  # for the journal
    assert (event, facts["map"], facts["picks"], facts["f1"], facts["precision"]) == ("chosen", "t1", len(picks), None, None)
    assert facts["doubt"].startswith("that takes 8 clicks or more")
    [text] = once
    assert text.startswith("how good the picks are can't be told: that takes 8 clicks or more that training did not learn from; click some")


def test_an_unknown_picker_is_refused_with_those_that_are_there():
    with pytest.raises(InputError, match="--method must be one of greedy, mean-pool, trace, found 'best'"):
        picker("best")


@pytest.fixture
def other_package(tmp_path, monkeypatch):
    """A package that adds a picker: one file and one line."""
    (tmp_path / "their_picker.py").write_text(
        "import numpy as np\n"
        "from tomostream.picking.protocol import Picks\n"
        "class Corner:\n"
        "    name, needs_count = 'corner', False\n"
        "    def pick(self, source, request, execution, progress):\n"
        "        return Picks(np.zeros((1, 3), dtype=np.int64), np.ones(1))\n"
        "PICKER = Corner()\n"
    )
    info = tmp_path / "their_picker-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-picker\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{PICKERS}]\ncorner = their_picker:PICKER\n")
    monkeypatch.syspath_prepend(tmp_path)
    catalogue._installed.cache_clear()
    yield info
    catalogue._installed.cache_clear()
    sys.modules.pop("their_picker", None)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("other_package")
def test_another_package_adds_a_picker_by_an_entry_point():
    assert picker_names() == ["corner", "greedy", "mean-pool", "trace"]
    assert picked("corner", blobs()).index_zyx.tolist() == [[0, 0, 0]]


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("their_picker:NOTHING", r"picker 'broken' can't be loaded from their_picker:NOTHING: AttributeError"),
        ("their_picker:Corner.name", r"picker 'broken' \(their_picker:Corner.name\) is not a picker: it needs name, needs_count and pick"),
    ],
)
def test_an_entry_that_is_no_picker_is_named_and_stops_no_other(other_package, address, said):
    (other_package / "entry_points.txt").write_text(f"[{PICKERS}]\nbroken = {address}\n")
    catalogue._installed.cache_clear()
    with pytest.raises(InputError, match=said):
        picker("broken")
    assert len(picked("greedy", blobs(), count=3)) == 3
