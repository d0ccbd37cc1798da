"""Which configuration does the page's form write?  One that the command line runs as it is, from any folder.

The form knows species, voxel size and minutes, and the workbench the tomograms and the table of clicks.  All else that the configuration
held before, as keys that somebody wrote by hand, stays; comments do not.
"""

from __future__ import annotations

import glob
from collections.abc import Mapping, Sequence

import yaml

from tomostream.config import Configuration, configuration_from, configuration_values
from tomostream.errors import InputError, TomostreamError
from tomostream.view.workspace import CONFIG_NAME, Workspace


def write_configuration(
    workspace: Workspace, species: Sequence[Mapping[str, object]], *, voxel_size: float | None, minutes: float | None = None
) -> Configuration:
    """Write `tomostream.yaml` of the project, and work with it from now on.

    Parameters
    ----------
    workspace
        What is open.
    species
        Of each its `name`, `radius` and `expected`, as in the configuration; None: not given.
    voxel_size
        Angstrom; None: the files say it, or it was said before.
    minutes
        Limit of the training; None: none.

    Raises
    ------
    ConfigurationError
        If a name, radius or number can't be, with what is allowed; or the present configuration can't be read: it is left as it is.
    InputError
        If a radius does not fit the tomograms, or none of these is there any more.
    """
    if not any(entry.is_there for entry in workspace.entries.values()):
        raise InputError("none of the tomograms is there any more; bring them back")
    before = workspace.config_path
    values = configuration_values(before) if before is not None and before.is_file() else {}
    known = {str(one["name"]): one for one in values.get("species", []) if isinstance(one, dict) and "name" in one}
    values["project"] = str(workspace.project)
    values["tomograms"] = [
        entry.source if "://" in entry.source else glob.escape(entry.source) for entry in workspace.entries.values() if entry.is_there
    ]
    values["species"] = [
        {key: value for key, value in (known.get(str(one.get("name")), {}) | dict(one)).items() if value is not None} for one in species
    ]
    labels = values.setdefault("labels", {})
    if str(workspace.clicks) not in labels.get("train", []):
        labels["train"] = [str(workspace.clicks)]
    workspace.voxel_size = voxel_size if voxel_size is not None else workspace.voxel_size
    if workspace.voxel_size is not None:
        values["voxel_size"] = workspace.voxel_size  # as it was said for the conversion: else the run would want another store
    training = {key: value for key, value in (values.pop("train", None) or {}).items() if key != "minutes"}
    if minutes is not None:
        training["minutes"] = minutes
    if training:
        values["train"] = training
    path = workspace.inside(CONFIG_NAME)
    configuration = configuration_from(values, "the page")
    _check_radii(workspace, configuration)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    head = f"# written by `tomostream view`; run it with: tomostream run {path}\n"
    beside.write_text(head + yaml.safe_dump(values, sort_keys=False, allow_unicode=True))
    beside.replace(path)
    workspace.adopt(path, configuration)
    return configuration


def _check_radii(workspace: Workspace, configuration: Configuration) -> None:
    """Refuse a radius that can't be, in the first tomogram that opens: voxels are easily taken for angstrom."""
    for name in workspace.entries:
        try:
            tomogram = workspace.tomogram(name)
        except TomostreamError:
            continue
        for species in configuration.species:
            species.check_radius(tomogram.shape, tomogram.spacing, name)
        return
