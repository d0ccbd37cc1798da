"""Define the systems that are compared, and the experiments.  Plain values; nothing is run here.

A system is a set of keys added to the common configuration.  Network rows (`pn`, `nnpu`, `kl`, `ge_binomial`) are the paper's objectives: the
network alone, learning from the clicked tomogram only, with the training's batch statistics, its scores averaged over 4 voxels before
picking.  `fused` is the default configuration.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

KEPT: dict[str, Any] = {"network": {"batch_statistics": "training"}}
OWN: dict[str, Any] = {"network": {"batch_statistics": "tomogram"}}
ALONE: dict[str, Any] = {"matched_filter": {"weight": 0}, "train": {"unlabelled": 0}, "pick": {"smooth": "4vox"}}


def objective(name: str, **others: Any) -> dict[str, Any]:
    """Return the configuration of an objective with further keys."""
    return {"objective": {"name": name}} | others


SYSTEMS: dict[str, dict[str, Any]] = {
    "fused": objective("nnpu"),
    "fused_kl": objective("kl"),
    "average": objective("average"),
    "template": objective("template"),
    "tensor": objective("template", template={"search": "tensor"}),
    "pn": objective("pn", **ALONE, **KEPT),
    "nnpu": objective("nnpu", **ALONE, **KEPT),
    "kl": objective("kl", **ALONE, **KEPT),
    "ge_binomial": objective("ge_binomial", **ALONE, **KEPT),
    # with ten clicks its own defaults are not the best; these were best on tomogram 02
    "deepetpicker": objective("deepetpicker", train={"crop": 48, "batch": 2, "learning_rate": 0.001, "label_radius": "8vox"}),
    "slices2d": objective("slices2d"),
    # two of them with each tomogram's own batch statistics
    "nnpu_own": objective("nnpu", **ALONE, **OWN),
    "deepetpicker_own": objective("deepetpicker", train={"crop": 48, "batch": 2, "learning_rate": 0.001, "label_radius": "8vox"}, **OWN),
    # upper bounds: every particle of the training tomogram is a label
    "full": objective("pn"),
    "full_alone": objective("pn", **ALONE),
    "full_deepetpicker": objective("deepetpicker"),
    "full_deepetpicker_own": objective("deepetpicker", **OWN),
    # ablation of `fused`
    "fused_kept": objective("nnpu", **KEPT),
    "fused_one_tomogram": objective("nnpu", train={"unlabelled": 0}),
    "all_tomograms_alone": objective("nnpu", matched_filter={"weight": 0}, pick={"smooth": "4vox"}),
    # the default with a wrong guess of the expected number, in training and in picking
    "fused_half": objective("nnpu"),
    "fused_double": objective("nnpu"),
}
CORRELATIONS = ("average", "template", "tensor")  # in float32, and the same for every seed
GUESSED = {"fused_half": 0.5, "fused_double": 2.0}  # the guess of the expected number, over `EXPECTED`
# in the plot over the number of clicks
OBJECTIVES_SHOWN = ("fused", "average", "template", "nnpu", "kl", "pn", "deepetpicker", "slices2d")
DENSITIES = {"ribosome": "4v7r.mrc", "fas": "2uv8.mrc"}
EXPECTED = {("DEF", "ribosome"): 180, ("VPP", "ribosome"): 160, ("DEF", "fas"): 14, ("VPP", "fas"): 14}  # one guess for all tomograms
TESTED = ("03", "04")
DOMAINS = ("DEF", "VPP")
SPECIES = ("ribosome", "fas", "both")
CLICKS = ("10", "30", "100")


@dataclass(frozen=True, slots=True, order=True)
class Experiment:
    """One training, and its picks in all tomograms of a domain."""

    domain: str  # DEF or VPP
    species: str  # ribosome, fas, or both
    clicks: int
    system: str
    seed: int

    @property
    def name(self) -> str:
        """Name of the experiment's files."""
        return f"{self.domain}_{self.species}_{self.clicks}_{self.system}_{self.seed}"

    @property
    def values(self) -> dict[str, str | int]:
        """Return plain values for JSON."""
        return {name: getattr(self, name) for name in ("domain", "species", "clicks", "system", "seed")}

    @property
    def kinds(self) -> list[str]:
        """The species that are trained on."""
        return ["ribosome", "fas"] if self.species == "both" else [self.species]


def configuration(experiment: Experiment, data: Path, work: Path) -> dict[str, Any]:
    """Return the values of the configuration file.

    Parameters
    ----------
    data
        The folder of the simulated tomograms' tables.
    work
        Holds the converted tomograms, and gets the project.
    """
    domain, seed = experiment.domain, experiment.seed
    own = SYSTEMS[experiment.system]
    guessed = GUESSED.get(experiment.system, 1.0)
    train: list[str] = []
    validate: list[str] = []
    for kind in experiment.kinds:
        prefix = "clicks_fas_" if kind == "fas" else "clicks_"
        if experiment.system.startswith("full"):
            train.append(str(work / f"truth_{domain}_01_{kind}.csv"))
        else:
            train.append(str(data / f"{prefix}{domain}_01_train_{experiment.clicks}.csv"))
        validate.append(str(data / f"{prefix}{domain}_02_validate_{experiment.clicks}.csv"))
    values: dict[str, Any] = {
        "project": str(work / "runs" / experiment.name),
        "tomograms": [str(work / "tomograms" / f"{domain}_*.ome.zarr")],
        "species": [{"name": kind, "radius": "135A", "expected": round(guessed * EXPECTED[domain, kind])} for kind in experiment.kinds],
        "labels": {"train": train, "validate": validate},
        "predict": {"precision": "float32" if experiment.system in CORRELATIONS else "bf16"},
        "truth": str(data / "truth.csv"),
        "tolerance": "10vox",
        **own,
    }
    values["train"] = {"seed": seed} | own.get("train", {})
    values["pick"] = {"count": "truth"} | own.get("pick", {})
    if own["objective"]["name"] == "template":
        values["template"] = own.get("template", {}) | {
            "density": {kind: str(data.parent / "templates" / DENSITIES[kind]) for kind in experiment.kinds}
        }
        if len(experiment.kinds) == 1:
            values["template"]["density"] = values["template"]["density"][experiment.kinds[0]]
    return values


def experiments(*, seeds: int, systems: list[str], clicks: list[int], domains: list[str], species: list[str]) -> list[Experiment]:
    """List all combinations, seed by seed, so that the first part gives a complete table with fewer seeds; upper bounds are run for one number of clicks only."""
    found = [
        Experiment(domain, kind, count, system, seed)
        for seed in range(seeds)
        for kind in species
        for count in clicks
        for system in systems
        for domain in domains
        if (count == clicks[0] or not system.startswith("full"))
        and (kind == "ribosome" or count == 10)
        # these are not random
        and (seed == 0 or system not in CORRELATIONS)
    ]
    return list(dict.fromkeys(found))
