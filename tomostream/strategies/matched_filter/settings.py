"""The section `template` of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from pydantic import Field, model_validator

from tomostream import defaults
from tomostream.config.fields import LengthField, Part

Search = Literal["rotations", "tensor"]
SEARCHES: tuple[str, ...] = get_args(Search)
COARSEST_TENSOR_DEG = 60.0  # largest `angle_step` of `search: tensor`: 69 orientations, to which 35 kernels are fitted


class Template(Part):
    """Settings of the strategy `template`: the density to search, and its orientations and missing wedge."""

    density: Path | dict[str, Path] | None = None
    """MRC file of the particle's density, bright, with its voxel size; `{SPECIES: FILE}` for several species. Required by `template`."""
    angle_step: float = Field(default=defaults.ANGLE_STEP_DEG, ge=5, le=180)
    """Degrees between orientations; 8 pi^2 / step^3 of them are searched."""
    tilt_range: tuple[float, float] = defaults.TILT_RANGE_DEG
    """Degrees; what lies outside is the missing wedge (beam along z)."""
    tilt_axis: Literal["x", "y"] = defaults.TILT_AXIS
    """Axis about which the stage tilts."""
    search: Search = defaults.TEMPLATE_SEARCH
    """`rotations`: correlate with every orientation. `tensor`: 35 correlations stand for all; much faster, and a little less accurate."""
    low_pass: LengthField | None = None
    """Finest detail that is kept, as `60A`. Default: what the level's voxels hold."""

    @model_validator(mode="after")
    def _tilts(self) -> Template:
        first, last = self.tilt_range
        if not -90 <= first < last <= 90:
            raise ValueError(
                f"template.tilt_range must be two angles from -90 to 90 degrees, the smaller first, found [{first:g}, {last:g}]"
            )
        return self

    def density_of(self, species: str) -> Path | None:
        """Return the path of a species' density; None if none is given."""
        return self.density.get(species) if isinstance(self.density, dict) else self.density
