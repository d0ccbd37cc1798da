"""The section `template` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from tomostream import defaults
from tomostream.config.fields import LengthField, Part


class Template(Part):
    """The known density that the strategy `template` searches, by rotated copies with the missing wedge."""

    density: Path | dict[str, Path] | None = None  # MRC, particle bright, with its voxel size; for several species by name
    angle_step: float = Field(default=defaults.ANGLE_STEP_DEG, ge=5, le=180)  # degrees between neighbouring orientations
    tilt_range: tuple[float, float] = defaults.TILT_RANGE_DEG
    tilt_axis: Literal["x", "y"] = defaults.TILT_AXIS
    low_pass: LengthField | None = None  # finest detail that is kept; default: what the level's voxels hold

    @model_validator(mode="after")
    def _tilts(self) -> Template:
        first, last = self.tilt_range
        if not -90 <= first < last <= 90:
            raise ValueError(
                f"template.tilt_range must be two angles from -90 to 90 degrees, the smaller first, found [{first:g}, {last:g}]"
            )
        return self

    def density_of(self, species: str) -> Path | None:
        """The density of a species; None if none is given."""
        return self.density.get(species) if isinstance(self.density, dict) else self.density
