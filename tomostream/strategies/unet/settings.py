"""The section `matched_filter` of the configuration."""

from __future__ import annotations

from pydantic import Field

from tomostream import defaults
from tomostream.config.fields import Part


class MatchedFilter(Part):
    """Settings of the matched filter, whose correlation with a radial profile of the clicks is added to the network's logits."""

    weight: float = Field(default=defaults.MATCHED_WEIGHT, ge=0)
    """Weight of the correlation with the clicks' profile relative to the network's logits, both in standard deviations; less where left-out clicks rank low; 0: the network alone."""
    smooth: float = Field(default=defaults.MATCHED_SMOOTH, ge=0, le=1)
    """Radius of the ball over which the network's logits are averaged before the correlation is added, in radii of the smallest particle."""
    look_alikes: float = Field(default=defaults.LOOK_ALIKES, ge=0)
    """Weight of what tells the particles among the best picks from their look-alikes, where these are two kinds by their radial profiles; 0: it is not used."""
