"""Judge ways of scoring by left-out clicks, and make the chosen one from all clicks; `evidence` describes the procedure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from tomostream import defaults
from tomostream.geometry import Box
from tomostream.picking.blocks import pick_array
from tomostream.picking.how_many import Best
from tomostream.picking.smoothing import ball_mean
from tomostream.strategies.matched_filter.correlation import CorrelationScorer
from tomostream.strategies.matched_filter.discriminant import telling_profile
from tomostream.strategies.matched_filter.kernels import profile_target
from tomostream.strategies.matched_filter.sampled_correlation import correlations_in
from tomostream.strategies.training_set import Training
from tomostream.strategies.unet.fusion import PIECE_VOX
from tomostream.strategies.unet.pretrained.evidence import Verdict, Way, folds_of, peaks_of, rank_of, verdict_of
from tomostream.strategies.unet.pretrained.head import Unclicked, fitted, steps_within
from tomostream.strategies.unet.pretrained.parts import Clicks, Found, Part, Profiles, deviation_of, features_at, in_deviations, linear
from tomostream.strategies.unet.pretrained.seeing import Eyes, smoothing_vox


class Judge:
    """Makes heads and filters from some clicks of a species, and ranks the other clicks by their scores.

    Parameters
    ----------
    training
        The training.
    eyes
        The backbone in each clicked tomogram.
    backgrounds
        A background box of each clicked tomogram.
    clicks
        The clicks with their boxes.
    unclicked
        Feature statistics of unclicked places; None without a backbone.
    profiles
        Radial profiles of clicks and of other peaks.
    radius
        Radius of the particle, in voxels of the level.
    """

    def __init__(
        self,
        training: Training,
        eyes: Eyes,
        backgrounds: list[Part],
        clicks: Clicks,
        unclicked: Unclicked | None,
        profiles: Profiles,
        radius: float,
    ) -> None:
        self._training, self._eyes, self._backgrounds, self._clicks = training, eyes, backgrounds, clicks
        self._unclicked, self._profiles, self._radius = unclicked, profiles, radius
        self._support = defaults.SUPPORT * radius
        measured = [part.box.size / math.prod(eyes.tomograms[part.tomogram].shape) for part in backgrounds]
        self._share = float(np.mean(measured))  # fraction of a tomogram that its background box covers
        self._steps, self._middle = steps_within(radius)

    @cached_property
    def _around(self) -> np.ndarray:
        """Features (click, step, channel) at the positions to which each click may move."""
        return np.array(
            [
                features_at(part.features, np.rint(point - part.box.start) + self._steps)
                for point, part in zip(self._clicks.points, self._clicks.parts, strict=True)
            ]
        )

    def decide(self, ways: Sequence[Way], *, expected: float | None) -> Verdict:
        """Choose a way of scoring by left-out clicks.

        Parameters
        ----------
        ways
            The ways to compare, in order of preference.
        expected
            Number of particles in all clicked tomograms together; None: unknown.
        """
        total = len(self._clicks.points)
        judged = self._clicks.judged
        ranks: list[list[float]] = [[] for _ in ways]
        shares: list[list[float]] = [[] for _ in ways]
        for fold in folds_of(len(judged)):
            left_out = judged[fold]
            self._rank(ways, left_out, np.setdiff1d(np.arange(total), left_out), ranks, shares)
        return verdict_of(ways, ranks, shares, expected=expected)

    @property
    def judged(self) -> tuple[tuple[str, np.ndarray], ...]:
        """Tomogram and position of each click that `decide` leaves out, in the order of its ranks."""
        judged = self._clicks.judged
        order = [index for fold in folds_of(len(judged)) for index in judged[fold]]
        return tuple((self._eyes.tomograms[self._clicks.parts[index].tomogram].name, self._clicks.points[index]) for index in order)

    def _rank(
        self, ways: Sequence[Way], left_out: np.ndarray, kept: np.ndarray, ranks: list[list[float]], shares: list[list[float]]
    ) -> None:
        """Make each way of scoring from the kept clicks, and append the ranks of the left-out clicks, as number and as share, to the lists of that way."""
        parts = [*self._backgrounds, *(self._clicks.parts[i] for i in left_out)]
        count = len(self._backgrounds)
        correlations = {
            is_telling: in_deviations(list(map(self._filter(self._profile(kept, is_telling)), parts)), count)
            for is_telling in (True, False)
        }
        heads: dict[float, list[np.ndarray]] = {}
        for shrinkage in {way.shrinkage for way in ways if way.shrinkage is not None}:
            weights, _ = self._head(kept, shrinkage)
            heads[shrinkage] = in_deviations([self._averaged(part, weights) for part in parts], count)
        for way, own, above in zip(ways, ranks, shares, strict=True):
            totals = [np.float32(way.filter) * correlation for correlation in correlations[way.is_telling]]
            if way.shrinkage is not None:
                totals = [total + logits for total, logits in zip(totals, heads[way.shrinkage], strict=True)]
            others = np.sort(np.concatenate([peaks_of(total, radius=self._radius)[1] for total in totals[:count]]))
            for i, total in zip(left_out, totals[count:], strict=True):
                click = self._clicks.points[i] - self._clicks.parts[i].box.start
                rank = rank_of(total, click, others, radius=self._radius)
                own.append(rank / self._share)  # extrapolated from the background boxes to all clicked tomograms
                above.append(rank / max(1, len(others)))

    def head(self, shrinkage: float) -> tuple[np.ndarray, float]:
        """Fit the head to all clicks; return the weights (c,) and the score half-way between clicks and unclicked places."""
        return self._head(np.arange(len(self._clicks.points)), shrinkage)

    def profile(self, *, is_telling: bool) -> np.ndarray:
        """Return the radial profile of the filter, made from all clicks; see `Way.is_telling`."""
        return self._profile(np.arange(len(self._clicks.points)), is_telling)

    def final(self, verdict: Verdict, expected: Sequence[float]) -> Found:
        """Make the chosen way of scoring from all clicks.

        Parameters
        ----------
        verdict
            The choice.
        expected
            Number of particles in each clicked tomogram.
        """
        way = verdict.way
        backbone = self._eyes.backbone
        if backbone is None:
            raise TypeError("there is no head without a backbone")
        profile = self.profile(is_telling=way.is_telling)
        weights, border = self.head(1.0 if way.shrinkage is None else way.shrinkage)
        weights, border = backbone.scale * weights, backbone.scale * border
        filtering = self._filter(profile)
        correlations = [filtering(part) for part in self._backgrounds]
        logits = [self._averaged(part, weights) for part in self._backgrounds]
        deviation = deviation_of(logits)
        slope = way.filter * deviation / deviation_of(correlations)
        if way.shrinkage is None:
            weights, border = np.zeros_like(weights), 0.0
            logits = [np.zeros_like(one) for one in logits]
        totals = [own + np.float32(slope) * c for own, c in zip(logits, correlations, strict=True)]
        level = self._level(totals, expected)
        return Found(verdict, weights, -border, profile, float(slope), border - level)

    def _level(self, totals: list[np.ndarray], numbers: Sequence[float]) -> float:
        """Return the score of the peak whose rank is the expected number of particles in the background boxes."""
        scores, wanted = [np.empty(0)], 0.0
        for part, total in zip(self._backgrounds, totals, strict=True):
            share = part.box.size / math.prod(self._eyes.tomograms[part.tomogram].shape)
            expected = share * numbers[part.tomogram]
            wanted += expected
            most = Best(max(1, math.ceil(3 * expected)))
            picks = pick_array(total, radius=self._radius, how_many=most, memory=self._training.settings.memory)
            scores.append(picks.score)
        ordered = np.sort(np.concatenate(scores))[::-1]
        return float(ordered[min(len(ordered), max(1, round(wanted))) - 1]) if len(ordered) else 0.0

    def _head(self, kept: np.ndarray, shrinkage: float) -> tuple[np.ndarray, float]:
        backbone = self._eyes.backbone
        if backbone is None or self._unclicked is None:
            raise TypeError("there is no head without a backbone")
        return fitted(self._around[kept], self._middle, self._unclicked, shrinkage=shrinkage, own_share=backbone.own_share)

    def _profile(self, kept: np.ndarray, is_telling: bool) -> np.ndarray:
        own = self._profiles.clicks[kept]
        if not is_telling:
            return np.asarray(own.mean(axis=0))
        return telling_profile(own, self._profiles.peaks, support=self._support)

    def _averaged(self, part: Part, weights: np.ndarray) -> np.ndarray:
        """Return the logits of a head in a box, averaged over a ball as in prediction, but only inside the box."""
        logits: np.ndarray = linear(part.features, weights[None])[0]
        smooth = smoothing_vox(self._training)
        if smooth < 1:
            return logits
        whole = Box.whole(part.box.shape)
        return np.asarray(ball_mean(logits, at=whole, wanted=whole, shape=part.box.shape, radius=smooth), dtype=np.float32)

    def _filter(self, profile: np.ndarray) -> Callable[[Part], np.ndarray]:
        """Return a function that correlates a profile with the voxels of a box."""
        scorer = CorrelationScorer([profile_target(profile, self._support)], floor=defaults.MATCHED_FLOOR, threads=None, piece=PIECE_VOX)

        def correlation(part: Part) -> np.ndarray:
            tomogram = self._eyes.tomograms[part.tomogram]
            return correlations_in(part.box, scorer, tomogram.read_standardised, tomogram.shape)

        return correlation
