"""The section `region` of the configuration: the part of each tomogram in which particles are looked for and counted."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from tomostream.config.fields import Part, Said
from tomostream.errors import InputError
from tomostream.units import Length, parse_box


def _box(text: str) -> str:
    try:
        parse_box(text, "")
    except InputError as error:
        raise ValueError(str(error)) from None
    return text


def _range(pair: tuple[int, int]) -> tuple[int, int]:
    if not 0 <= pair[0] < pair[1]:
        raise ValueError(f"must be the first slice and the one after the last, as [40, 160], found [{pair[0]}, {pair[1]}]")
    return pair


def _distance(value: Any) -> Any:
    if isinstance(value, Length):
        return value
    text = str(value).strip()
    return Length(0.0, is_voxels=True) if text in ("0", "0vox", "0A") else Length.parse(text, "")


def _checked_distance(value: Any) -> Any:
    try:
        return _distance(value)
    except InputError as error:
        raise ValueError(str(error)) from None


Distance = Annotated[Length, BeforeValidator(_checked_distance), PlainSerializer(str), Said("a length, as 0vox or 200A")]
BoxText = Annotated[str, AfterValidator(_box), Said("a box of voxels, as 0:64,100:300,100:300")]
SliceRange = Annotated[tuple[int, int], AfterValidator(_range), Said("the first slice and the one after the last, as [40, 160]")]


class Region(Part):
    """Where to look: a voxel counts if all that is given includes it.  Picks, their counts and thresholds, and the evaluation come from inside alone."""

    z: SliceRange | dict[str, SliceRange] | None = None
    """First slice, and the one after the last, as `[40, 160]`; or `{TOMOGRAM: [40, 160]}`."""
    box: BoxText | dict[str, BoxText] | None = None
    """Voxels `Z0:Z1,Y0:Y1,X0:X1`, half-open; or one for each tomogram."""
    mask: str | dict[str, str] | None = None
    """Mask or label volume on the tomogram's grid, MRC or OME-Zarr; or one for each tomogram. Not 0: inside, or as `labels` says."""
    labels: dict[int, Distance] | None = Field(default=None)
    """Labels of the mask that count, each with the distance up to which voxels around count too, as `{1: 0vox, 3: 200A}`. Default: all but 0, no distance."""

    @model_validator(mode="after")
    def _labels_of_a_mask(self) -> Region:
        if self.labels is not None and self.mask is None:
            raise ValueError("region.labels are those of a label volume: give it as region.mask")
        return self

    @property
    def is_everywhere(self) -> bool:
        """Whether nothing is given."""
        return self.z is None and self.box is None and self.mask is None

    def of(self, tomogram: str) -> RegionOfTomogram:
        """What is given for one tomogram.

        Raises
        ------
        InputError
            If a key names its tomograms, and lacks this one.
        """
        return RegionOfTomogram(
            z=_for(self.z, tomogram, "z"), box=_for(self.box, tomogram, "box"), mask=_for(self.mask, tomogram, "mask"), labels=self.labels
        )


class RegionOfTomogram(Part):
    """The same of one tomogram."""

    z: tuple[int, int] | None
    box: str | None
    mask: str | None
    labels: dict[int, Distance] | None


def _for(given: Any, tomogram: str, key: str) -> Any:
    if not isinstance(given, dict):
        return given
    if tomogram not in given:
        raise InputError(f"region.{key} has no entry for tomogram '{tomogram}'; it names {', '.join(given) or 'none'}")
    return given[tomogram]
