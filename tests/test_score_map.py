"""Any image opens as a score map; what a store says of itself is read as it was written, by this version and by older ones."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_files import write_store

from tomostream.errors import InputError
from tomostream.geometry import Box
from tomostream.score_map import ScoreMapAttributes, open_score_map

VOLUME = np.arange(-4, 4, dtype=np.int8).reshape(2, 2, 2)
# as `predict` of version 0.1 wrote them: the keys, their order and their types
OF_0_1 = {
    "kind": "scores",
    "species": "ribosome",
    "logits": False,
    "tomogram": "t1",
    "strategy": "unet",
    "pick_method": "greedy",
    "score_scale": 1 / 254,
    "score_offset": 0.5,
    "score_missing": -128,
}


@pytest.mark.parametrize("given_keys", [OF_0_1, {key: OF_0_1[key] for key in list(OF_0_1)[:6]}])
def test_what_is_written_is_what_version_0_1_wrote(given_keys):
    assert json.dumps(ScoreMapAttributes(**given_keys).to_json()) == json.dumps(given_keys)


def test_an_image_without_attributes_is_a_score_map_of_one_species(tmp_path):
    scores = open_score_map(write_store(tmp_path / "a.ome.zarr", VOLUME))
    assert scores.attributes == ScoreMapAttributes()
    assert (scores.attributes.species, scores.attributes.pick_method, scores.attributes.values) == ("particle", "greedy", "unknown")
    assert (scores.name, scores.shape, scores.spacing) == ("a", (2, 2, 2), 13.48)


@pytest.mark.parametrize(
    ("given_keys", "values"),
    [
        ({"kind": "scores"}, "probability"),
        ({"kind": "scores", "logits": False}, "probability"),
        ({"kind": "scores", "logits": True}, "logit"),
        ({"logits": True}, "logit"),
        ({"kind": "labels"}, "unknown"),
    ],
)
def test_values_are_probabilities_only_where_predict_says_so(tmp_path, given_keys, values):
    assert open_score_map(write_store(tmp_path / "a.ome.zarr", VOLUME, **given_keys)).attributes.values == values


def test_missing_scores_are_nan_and_other_levels_decode_too(tmp_path):
    volume = VOLUME.copy()
    volume[0, 0, 0] = -128
    store = write_store(tmp_path / "a.ome.zarr", volume, score_scale=0.5, score_offset=1, score_missing=-128)
    found = open_score_map(store).read(Box.whole((2, 2, 2)))
    expected = volume * 0.5 + 1
    expected[0, 0, 0] = np.nan
    np.testing.assert_array_equal(found, expected)
    coarse = open_score_map(write_store(tmp_path / "b.ome.zarr", VOLUME.astype(np.float32), score_scale=2.0)).at_level(1)
    np.testing.assert_array_equal(coarse.read(Box.whole((1, 1, 1))), [[[2.0 * VOLUME.mean()]]])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"species": 5}, r"species: Input should be a valid string, found 5"),
        ({"logits": "no"}, r"logits: Input should be a valid boolean, found 'no'"),
        ({"score_scale": "0.1"}, r"score_scale: Input should be a valid number, found '0\.1'"),
        ({"score_missing": 1.5, "score_scale": 1.0}, r"score_missing: Input should be a valid integer, found 1\.5"),
        ({"pick_method": ["greedy"], "kind": 1}, r"kind: Input should be 'labels', 'scores' or 'tomogram', found 1 \(and 1 more\)"),
    ],
)
def test_a_wrong_type_is_one_error_that_names_store_and_key(tmp_path, wrong, said):
    store = write_store(tmp_path / "a.ome.zarr", VOLUME, **wrong)
    with pytest.raises(InputError, match=rf"a\.ome\.zarr: .*{said}"):
        open_score_map(store)


@given(
    st.dictionaries(
        st.sampled_from(sorted(ScoreMapAttributes.model_fields)),
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.lists(st.integers()),
    )
)
def test_attributes_are_taken_as_they_are_or_refused(values):
    try:
        taken = ScoreMapAttributes.model_validate(values)
    except ValueError:
        return
    assert taken.to_json().items() >= {key: value for key, value in values.items() if value is not None}.items()
