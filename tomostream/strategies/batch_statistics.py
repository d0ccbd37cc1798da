"""Does this model take each tomogram's own batch-norm statistics, and what is it with them?

Models with a network do, unless they were trained to keep the training's (`network.batch_statistics` of the configuration) or before
there was a choice.  See `inference.batch_statistics`.
"""

from dataclasses import replace

from tomostream.geometry import Triple
from tomostream.inference.batch_statistics import Sampling, Statistics, adapted, statistics_of, unet_sampling, with_statistics
from tomostream.inference.region_scoring import Reader
from tomostream.learn.precision import resolve_device
from tomostream.strategies.deepetpicker import model as deepetpicker
from tomostream.strategies.deepetpicker.network import CoordinateUNet
from tomostream.strategies.model_folder import AnyModel
from tomostream.strategies.slices2d import model as slices2d
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.unet.model import Model
from tomostream.strategies.unet.network import ResidualUNet

OPTION = "batch_statistics"  # of a strategy's model folder: "tomogram" or "training"


def adapts(model: AnyModel) -> bool:
    """Whether each tomogram is scored with batch-norm statistics of its own."""
    found = model.settings.batch_statistics if isinstance(model, Model) else model.settings.options.get(OPTION, "training")
    return bool(found == "tomogram")


def own_statistics(model: AnyModel, read: Reader, shape: Triple, *, device: str) -> Statistics:
    """The batch-norm statistics of a tomogram.

    Parameters
    ----------
    model
        One that adapts.
    read
        Reads boxes of the tomogram, standardised, at the model's level.
    shape
        Of the tomogram at that level, voxels.
    device
        `cpu`, `cuda` or `auto`.

    Raises
    ------
    InputError
        If the model is broken, or the device not there.
    """
    network, sampling = _sampled(model)
    return statistics_of(adapted(network, sampling.images(read, shape), device=resolve_device(device)))


def adaptation_bytes(model: AnyModel) -> int:
    """Projected memory of finding a tomogram's statistics, libraries apart; 0 for a model that keeps its own."""
    if not adapts(model):
        return 0
    network, sampling = _sampled(model)
    return sampling.projected_bytes(network.channels)


def with_own(model: AnyModel, statistics: Statistics) -> AnyModel:
    """The model for the tomogram that these statistics are of."""
    if isinstance(model, Model):
        return replace(model, network=with_statistics(model.network, statistics))
    return replace(model, arrays=model.arrays | statistics)


def _sampled(model: AnyModel) -> tuple[ResidualUNet | CoordinateUNet | SliceDetector, Sampling]:
    if isinstance(model, Model):
        return model.network, unet_sampling(model.network.stride)
    if model.strategy == deepetpicker.NAME:
        network, patch, _ = deepetpicker.load_network(model)
        return network, deepetpicker.patch_sampling(network, patch)
    if model.strategy == slices2d.NAME:
        detector = slices2d.load_network(model)
        return detector, slices2d.slice_sampling(detector)
    raise TypeError(f"a model of {model.strategy} has no network")
