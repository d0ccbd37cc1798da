"""Pictures and the page: they show what they are given, and nothing comes from elsewhere."""

import re

import numpy as np

from tomostream.learn.fit import METRICS_NAME
from tomostream.report.page import Section, render_page
from tomostream.report.pictures import SliceView, score_histogram, slice_picture, training_curves

PNG = b"\x89PNG\r\n\x1a\n"
ROWS = [{"epoch": 1.0, "train_loss": 0.5, "val_loss": 0.6, "val_recall": 0.2, "val_f1": 0.1, "criterion": 0.3}] * 2


def view(**values: object) -> SliceView:
    points = np.array([[5.0, 10.0, 12.0], [50.0, 3.0, 3.0]])
    given = {
        "name": "t1", "z": 5, "image": np.random.default_rng(0).normal(size=(24, 32)).astype(np.float32), "scores": None,
        "hits": points, "misses": points[:1], "false_picks": points[:0], "radius": 4.0, "has_truth": True,
    }  # fmt: skip
    return SliceView(**(given | values))


def test_training_loss_is_drawn_beside_the_validation_loss():
    assert METRICS_NAME == "metrics.csv"
    both = training_curves(ROWS, 1)
    assert both.startswith(PNG)
    assert both != training_curves([{k: v for k, v in row.items() if k != "train_loss"} for row in ROWS], 1)


def test_equal_results_give_equal_bytes():
    assert slice_picture(view()) == slice_picture(view())
    assert score_histogram(np.linspace(0, 1, 9), "a") == score_histogram(np.linspace(0, 1, 9), "a")


def test_misses_and_scores_change_the_picture():
    assert slice_picture(view()) != slice_picture(view(misses=np.empty((0, 3))))
    assert slice_picture(view()) != slice_picture(view(scores=np.zeros((24, 32), dtype=np.float32)))


def test_constant_and_missing_images_are_drawn():
    assert slice_picture(view(image=np.full((24, 32), np.nan, dtype=np.float32))).startswith(PNG)


def test_page_is_self_contained_and_escapes_text():
    page = render_page("a <b>", "s", [Section("x", text="<script>", pictures=[PNG], columns=["c"], rows=[["pooled"]])])
    assert not re.findall(r'(?:src|href)="(?!data:)', page)
    assert "<script>" not in page
    assert "a &lt;b&gt;" in page
