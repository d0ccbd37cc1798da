"""Tests that every picker must pass: the properties that `pick` and `run` rely on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from tomostream.catalogue import PICKERS, installed
from tomostream.errors import BudgetError, InputError
from tomostream.geometry import Box
from tomostream.picking.how_many import Above, AsManyAs, Best, HowMany
from tomostream.picking.pickers import picker
from tomostream.picking.protocol import Execution, Picker, PickRequest, Picks, Source
from tomostream.progress import Progress

_MEMORY = 10**9  # bytes
_RADIUS = 4.0  # voxels
_SHAPE = (24, 40, 44)
_TYPES = ("bool", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f2", "f4", "f8", ">f4", ">i2")
_WANTED: tuple[HowMany, ...] = (Best(7), Above(0.4), Best(5, above=0.4), AsManyAs(6))
_each_wanted = pytest.mark.parametrize("wanted", _WANTED, ids=str)


class PickerTests:
    """Tests of a picker.  Subclass it as `TestMine`, and set `name`.

    Attributes
    ----------
    name
        Name of the entry point.
    shortfall
        By how many voxels two picks may be nearer than the radius, for pickers that round centres to voxels.
    scores_are_of_the_volume
        Whether the picks' scores can be compared with the threshold; False for a picker that computes scores of its own.
    """

    name: ClassVar[str]
    shortfall: ClassVar[float] = 0.0
    scores_are_of_the_volume: ClassVar[bool] = True

    @classmethod
    def _pick(cls, scores: Any, wanted: HowMany | None, *, execution: Execution | None = None, **request: Any) -> Picks:
        source = Source.of(scores, values="probability")
        asked = PickRequest(**({"radius": _RADIUS, "how_many": wanted} | request))
        return picker(cls.name).pick(source, asked, execution or Execution(memory=_MEMORY), Progress())

    # its entry point

    def test_it_is_installed_and_speaks_the_protocol(self) -> None:
        assert self.name in installed(PICKERS)
        found = picker(self.name)
        assert isinstance(found, Picker)
        assert found.name == self.name

    def test_without_a_number_it_picks_or_refuses_as_it_says(self) -> None:
        if picker(self.name).needs_count:
            with pytest.raises(InputError, match="how many picks"):
                self._pick(_hills(), None)
        else:
            assert len(self._pick(_hills(), None)) > 0

    # what it picks

    @_each_wanted
    def test_picks_are_voxels_of_the_volume_best_first(self, wanted: HowMany) -> None:
        picks = self._pick(_hills(), wanted)
        assert len(picks) > 0
        if isinstance(wanted, Best):
            assert len(picks) <= wanted.count
        assert picks.index_zyx.dtype == np.int64
        assert picks.score.dtype == np.float64
        assert picks.score.shape == (len(picks),)
        assert (picks.index_zyx >= 0).all()
        assert (picks.index_zyx < _SHAPE).all()
        assert (np.diff(picks.score) <= 0).all()

    @_each_wanted
    def test_no_two_picks_are_nearer_than_the_radius(self, wanted: HowMany) -> None:
        picks = self._pick(_hills(), wanted)
        apart = np.linalg.norm(picks.index_zyx[:, None] - picks.index_zyx[None], axis=2)[np.triu_indices(len(picks), 1)]
        assert (apart > _RADIUS - self.shortfall).all()

    @pytest.mark.parametrize("count", [1, 2, 9, 10**4])
    def test_no_more_are_picked_than_wanted_and_as_many_where_there_are(self, count: int) -> None:
        found, all_there_are = self._pick(_hills(), Best(count)), self._pick(_hills(), Best(10**5))
        assert len(found) == min(count, len(all_there_are))

    def test_a_threshold_is_obeyed(self) -> None:
        assert len(self._pick(_hills(), Above(1.0))) == 0
        for wanted in (Above(0.6), Best(10**4, above=0.6)):
            picks = self._pick(_hills(), wanted)
            assert len(picks) > 0
            if self.scores_are_of_the_volume:
                assert (picks.score > 0.6).all()

    def test_nan_is_never_picked(self) -> None:
        scores = _hills()
        scores[:, :20] = np.nan
        picks = self._pick(scores, Above(0.2))
        assert len(picks) > 0
        assert (picks.index_zyx[:, 1] >= 20).all()
        assert np.isfinite(picks.score).all()
        for wanted in _WANTED:
            assert len(self._pick(np.full(_SHAPE, np.nan, dtype=np.float32), wanted)) == 0

    def test_nothing_outside_the_box_is_picked(self) -> None:
        picks = self._pick(_hills(), Best(50), box=Box((4, 8, 8), (20, 30, 30)))
        assert len(picks) > 0
        assert (picks.index_zyx >= (4, 8, 8)).all()
        assert (picks.index_zyx < (20, 30, 30)).all()

    def test_a_border_is_kept_and_one_that_leaves_nothing_is_refused(self) -> None:
        picks = self._pick(_hills(), Best(50), border=5.5)
        assert len(picks) > 0
        assert (picks.index_zyx >= 6).all()
        assert (picks.index_zyx < np.array(_SHAPE) - 6).all()
        with pytest.raises(InputError, match="border"):
            self._pick(_hills(), Best(50), border=100.0)

    # blocks, memory, data types

    @given(block=st.tuples(*[st.integers(5, 50)] * 3), workers=st.integers(1, 3), wanted=st.sampled_from(_WANTED), seed=st.integers(0, 99))
    @settings(max_examples=min(10, settings().max_examples // 2), deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    def test_picks_are_the_same_for_any_block_and_any_number_of_workers(
        self, block: tuple[int, int, int], workers: int, wanted: HowMany, seed: int
    ) -> None:
        scores = _hills(seed)
        expected = self._pick(scores, wanted, execution=Execution(memory=_MEMORY, block=_SHAPE))
        found = self._pick(scores, wanted, execution=Execution(memory=_MEMORY, block=block, workers=workers))
        _assert_equal(found, expected)

    def test_a_budget_that_holds_nothing_is_refused_before_any_score_is_read(self) -> None:
        read: list[Box] = []

        def reading(box: Box) -> np.ndarray:
            read.append(box)
            return np.zeros(box.shape, dtype=np.float32)

        with pytest.raises(BudgetError):
            picker(self.name).pick(
                Source(reading, (2000, 4000, 4000)), PickRequest(radius=_RADIUS, how_many=Best(5)), Execution(memory=10**6), Progress()
            )
        assert read == []

    @pytest.mark.parametrize("dtype", _TYPES)
    def test_a_store_of_any_type_gives_the_picks_of_its_values(self, dtype: str) -> None:
        levels = 1 if dtype == "bool" else 100
        values = np.rint(_hills() * levels).astype(dtype)
        store = zarr.create_array({}, shape=values.shape, chunks=(16, 16, 16), dtype=values.dtype.newbyteorder("="))
        store[:] = values
        for given_as in (store, values):
            _assert_equal(self._pick(given_as, Best(9)), self._pick(values.astype(np.float64), Best(9)))

    @pytest.mark.parametrize("dtype", ["c8", "U3"])
    def test_what_is_no_real_number_is_refused(self, dtype: str) -> None:
        with pytest.raises(InputError, match="real number"):
            self._pick(np.zeros((8, 8, 8), dtype=dtype), Best(3))


def _hills(seed: int = 0) -> np.ndarray:
    """Return smoothed noise as probabilities, float32."""
    ground = gaussian_filter(np.random.default_rng(seed).normal(size=_SHAPE), 2.0)
    scores: np.ndarray = (1 / (1 + np.exp(-6 * ground / ground.std() + 6))).astype(np.float32)
    return scores


def _assert_equal(found: Picks, expected: Picks) -> None:
    np.testing.assert_array_equal(found.index_zyx, expected.index_zyx)
    np.testing.assert_array_equal(found.score, expected.score)
