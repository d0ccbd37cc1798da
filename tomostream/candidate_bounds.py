"""What can be picked exactly from a score map of which only candidates were kept?  The bounds that its store records.

A map of candidates (`predict.keep: candidates`) is a score map whose other voxels are missing.  Floors say what is whole in it:

    radius                                        exact above
    `least` to the `most` of a range              the range's `floor`: every voxel that may be a pick for such a radius is there (`picking.radius_sets`)
    any, and inside a border, box or mask         `floor`: every voxel above it is there
"""

import math

from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt


class RadiusRange(BaseModel):
    """Radii from the least to `most`, voxels, and the score above which picks with them are exact; None: everything is there."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    most: StrictFloat | StrictInt = Field(gt=0, allow_inf_nan=False)
    floor: StrictFloat | StrictInt | None = Field(default=None, allow_inf_nan=False)


class CandidateBounds(BaseModel):
    """Above which scores picks are exact, as the store's attributes say.

    Parameters
    ----------
    least
        Radius between picks, voxels, with which the ranges begin.
    ranges
        From the narrowest to the widest.
    floor
        For any radius, and for a part of the volume; None: everything is there.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    least: StrictFloat | StrictInt = Field(gt=0, allow_inf_nan=False)
    ranges: tuple[RadiusRange, ...] = ()
    floor: StrictFloat | StrictInt | None = Field(default=None, allow_inf_nan=False)

    def floor_at(self, radius: float, *, is_whole: bool) -> float:
        """The score above which picks are exact.

        Parameters
        ----------
        radius
            Between picks, voxels.
        is_whole
            Whether all voxels of the volume may be picks.
        """
        # distances between voxels are roots of whole numbers: of radii, those of their squares count
        squared = int(radius * radius)
        floor = self.floor
        if is_whole and squared >= int(self.least * self.least):
            floor = next((one.floor for one in self.ranges if squared <= int(one.most * one.most)), floor)
        return -math.inf if floor is None else float(floor)
