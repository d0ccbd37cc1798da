"""The dataset that training iterates over: batches of crops with labels and weights, made on demand.

Each epoch is planned from (seed, epoch) alone (`plan`), divided among ranks and loader workers (`schedule`), read region by region (`fetch`),
turned (`augment`), labelled from the points (there is no stored mask) and weighted; uniform crops may get copies of labelled particles
(`paste`).  The same seed, epoch, rank, world and number of workers give the same stream, byte for byte; no global random state is read or
changed.

In one process: `for batch in dataset`.  With worker processes: `DataLoader(dataset, batch_size=None, num_workers=2,
multiprocessing_context="spawn")`.  Each worker opens the stores itself and has a buffer of its own.  Persistent workers
(`persistent_workers=True`) keep their buffers, and follow `set_epoch`.
"""

import operator
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch.utils.data import IterableDataset, get_worker_info

from tomostream import defaults
from tomostream.errors import InputError
from tomostream.geometry import Box, Triple, triple
from tomostream.learn.batch import Batch
from tomostream.masks import check_labels, mask_of_box
from tomostream.stream.augment import orientations_of, oriented
from tomostream.stream.fetch import TRANSIENT_BYTES, RegionReader, Volume
from tomostream.stream.paste import Copy, Pasting, centres_of, copied, paste
from tomostream.stream.plan import Crop, Rejected, draw_epoch, draw_uniform, fitted_crop, inclusion_weights, make_design
from tomostream.stream.schedule import Division, in_drawing_order, part_of, plan_layout
from tomostream.units import parse_shape

_PASTED = 1  # of the random numbers of an epoch, those that place copies
_HELD_BATCHES = 3  # one being made, one waiting, one in use


class SubtomogramDataset(IterableDataset[Batch]):
    """Stream batches of subtomograms of labelled tomograms, out of core.

    Parameters
    ----------
    tomograms
        Each at the pyramid level to read, with normalisation; picklable.
    points
        Per tomogram and species: float64 (n, 3), z y x in voxels of that level, not rounded.
    radius
        Of each species' labels, voxels of that level.
    buffer_bytes
        Memory for voxels, in each process that iterates.
    label_shape
        `sphere`, `gaussian` or `cube`.
    crop
        Edge, or edges z y x, voxels; shortened where a tomogram is shorter (the attribute `crop` has the result).
    stride
        The network's total stride; crops must be multiples of it.
    batch
        Crops in a batch.
    batches_per_epoch
        Batches of each rank, its workers together.
    labelled_fraction
        Share of the crops drawn around labels, 0 to 1.
    seed
        Not negative.
    symmetry
        `cube`, `wedge` or `none`: which turned copies are shown (see `augment`).
    rank, world
        Number of this process among those that train together, and how many there are.
    epoch
        The first epoch to stream.
    rejected
        Places that are no particles, of the same tomograms and species; None: there are none, and the batches are no `CorrectedBatch`.
    pasting
        Copies of labelled particles that are pasted into uniform crops; None: none are.

    Raises
    ------
    InputError
        If a setting is out of its range, points and tomograms don't fit together, or there is no point to draw around.
    BudgetError
        If the buffer is too small for these crops.
    """

    def __init__(  # noqa: PLR0913 (its keywords are the public interface)
        self,
        *,
        tomograms: Sequence[Volume],
        points: Sequence[Sequence[np.ndarray]],
        radius: Sequence[float | int],
        buffer_bytes: int,
        label_shape: str = defaults.LABEL_SHAPE,
        crop: int | tuple[int, ...] | list[int] = defaults.CROP_VOX,
        stride: int = 1,
        batch: int = defaults.BATCH,
        batches_per_epoch: int = defaults.STEPS_PER_EPOCH,
        labelled_fraction: float | int = defaults.LABELLED_FRACTION,
        seed: int = defaults.SEED,
        symmetry: str = defaults.SYMMETRY,
        rank: int = 0,
        world: int = 1,
        epoch: int = 0,
        rejected: Rejected | None = None,
        pasting: Pasting | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("stride", stride, 1),
            ("batch", batch, 1),
            ("batches_per_epoch", batches_per_epoch, 1),
            ("seed", seed, 0),
            ("rank", rank, 0),
            ("world", world, 1),
        ):
            _check_integer(name, value, least)
        if not 0 <= labelled_fraction <= 1:
            raise InputError(f"labelled_fraction must lie between 0 and 1, found {labelled_fraction}")
        if rank >= world:
            raise InputError(f"rank must be below world, found rank {rank} and world {world}")
        self._points = _checked_points(tomograms, points, radius, label_shape)
        self._rejected = rejected and replace(rejected, points=_checked_points(tomograms, rejected.points, rejected.radius, label_shape))
        self._pasting, self._centres = _checked_pasting(pasting, len(radius)), centres_of(self._points)
        self._tomograms, self._radius, self._label_shape = tuple(tomograms), tuple(float(r) for r in radius), label_shape
        self._seed, self._rank, self._world = seed, rank, world
        self._division = Division(batch, batches_per_epoch, labelled_fraction, world, workers=1)
        shapes = [triple(t.shape) for t in tomograms]
        fitted = fitted_crop(parse_shape(crop, "crop"), shapes, stride)
        n_labelled, n_uniform = self._division.totals
        self._design = make_design(
            shapes=shapes,
            points=self._points,
            radius=self._radius,
            crop=fitted,
            n_uniform=n_uniform,
            n_labelled=n_labelled,
            orientations=orientations_of(symmetry, fitted),
            rejected=self._rejected,
        )
        self._layout = plan_layout(self._design, [triple(t.chunk) for t in tomograms], buffer_bytes=buffer_bytes)
        self._reader: RegionReader | None = None
        # in shared memory, so that workers which live on see it change
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()
        self.set_epoch(epoch)

    @property
    def crop(self) -> Triple:
        """Edges z y x of the crops, voxels."""
        return self._design.crop

    @property
    def projected_bytes(self) -> int:
        """Largest number of bytes that an iterating process needs for voxels; its libraries come on top."""
        layout = self._layout
        regions = layout.block_bytes if layout.keeps_volumes else layout.point_bytes + layout.block_bytes
        voxels = self.crop[0] * self.crop[1] * self.crop[2]
        # image and weight are float32, labels one byte; inclusion weights are computed in float64
        batches = _HELD_BATCHES * self._division.batch * voxels * (8 + len(self._radius) * (1 if self._rejected is None else 2))
        return regions + 2 * TRANSIENT_BYTES + batches + 4 * 8 * voxels

    def __len__(self) -> int:
        """Batches per epoch of this rank."""
        return self._division.batches

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration streams."""
        _check_integer("epoch", epoch, 0)
        self._epoch.fill_(epoch)

    def __iter__(self) -> Iterator[Batch]:
        info = get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        return self._batches(int(self._epoch), worker, workers)

    def _batches(self, epoch: int, worker: int, workers: int) -> Iterator[Batch]:
        own = self._division
        division = Division(own.batch, own.batches, own.labelled_fraction, own.world, workers)
        part = self._rank * workers + worker
        labelled, uniform = (
            part_of(self._layout, crops, division.sizes(is_labelled=is_labelled), part, seed=self._seed, epoch=epoch)
            for is_labelled, crops in zip((True, False), draw_epoch(self._design, seed=self._seed, epoch=epoch), strict=True)
        )
        reader = self._open_reader()
        with closing(reader.images(labelled)) as labelled_images, closing(reader.images(uniform)) as uniform_images:
            around, anywhere = zip(labelled, labelled_images, strict=True), zip(uniform, uniform_images, strict=True)
            for index in division.batches_of(worker):
                n_labelled = division.labelled_in(index)
                batch = _Arrays(division.batch, len(self._radius), self.crop, has_negative=self._rejected is not None)
                for i in range(division.batch):
                    self._fill(batch, i, *next(around if i < n_labelled else anywhere))
                if self._pasting is not None and batch.copies:
                    batch.paste(self._pasting.share, np.random.default_rng([self._seed, epoch, self._rank, index, _PASTED]))
                yield batch.as_tensors()

    def _fill(self, batch: "_Arrays", i: int, crop: Crop, image: np.ndarray) -> None:
        """Write a crop's turned image, labels and weights into place i of a batch."""
        # copied first, then turned: turning the strided view of the region is slower
        batch.image[i, 0] = oriented(np.ascontiguousarray(image), crop.orientation)
        weight = inclusion_weights(self._design, crop)
        batch.weight[i, 0] = oriented(weight, crop.orientation)
        box, volume = self._design.box(crop), self._design.shapes[crop.tomogram]
        for s, radius in enumerate(self._radius):
            positive = self.marked(box, self._points[crop.tomogram][s], radius, volume)
            batch.positive[i, s] = oriented(positive, crop.orientation)
            if self._rejected is not None and batch.negative is not None:
                near = self.marked(box, self._rejected.points[crop.tomogram][s], self._rejected.radius[s], volume)
                batch.negative[i, s] = oriented(
                    near.astype(bool) & ~positive.astype(bool), crop.orientation
                )  # a click beside a rejected place is believed
        batch.is_labelled[i] = crop.is_labelled
        copy = self._copied(crop, image, weight) if crop.is_labelled else None
        batch.copies += [] if copy is None else [copy]

    def _copied(self, crop: Crop, image: np.ndarray, weight: np.ndarray) -> Copy | None:
        """Return a copy of the particle around which a crop was drawn; None if none is wanted, it was a rejected place, or it is not whole."""
        if self._pasting is None or crop.point >= len(self._centres):
            return None
        species, position = self._centres[crop.point]
        box, volume = self._design.box(crop), self._design.shapes[crop.tomogram]
        return copied(
            image,
            self.marked(box, position[None], self._radius[species], volume).astype(bool),
            weight,
            position - np.array(crop.start),
            radius=self._pasting.radius[species],
            species=species,
            orientation=crop.orientation,
        )

    def marked(self, box: Box, points_zyx: np.ndarray, radius: float, volume: Triple) -> np.ndarray:
        """Mark the voxels of a box that lie in the labels of the points.  A subclass may mark others."""
        return mask_of_box(box, points_zyx, radius=radius, shape=self._label_shape, volume=volume)

    def uniform_images(self, n: int, seed: int) -> Iterator[Float32[torch.Tensor, "n 1 z y x"]]:
        """Yield n uniform crops, not turned, in batches; batch-norm statistics are computed from these.

        Parameters
        ----------
        n
            Total number of crops; the last batch may be smaller.
        seed
            Equal seeds give equal crops.
        """
        _check_integer("n", n, 1)
        _check_integer("seed", seed, 0)
        return self._uniform_images(n, seed)

    def _uniform_images(self, n: int, seed: int) -> Iterator[torch.Tensor]:
        rng = np.random.default_rng(seed)
        drawn = draw_uniform(self._design, n, rng)
        crops = drawn if self._layout.keeps(is_labelled=False) else in_drawing_order(self._layout, drawn, rng=rng)
        size = self._division.batch
        with closing(self._open_reader().images(crops)) as images:
            for first in range(0, n, size):
                batch = np.empty((min(size, n - first), 1, *self.crop), dtype=np.float32)
                for place in batch:
                    place[0] = next(images)
                yield torch.from_numpy(batch)

    def _open_reader(self) -> RegionReader:
        if self._reader is None:
            self._reader = RegionReader(self._tomograms, self._layout)
        return self._reader

    def __getstate__(self) -> dict[str, Any]:
        # a worker does not get the voxels in memory: it reads its own share
        return {**self.__dict__, "_reader": None}


class _Arrays:
    """A batch that is being filled."""

    def __init__(self, n: int, species: int, crop: Triple, *, has_negative: bool) -> None:
        self.image = np.empty((n, 1, *crop), dtype=np.float32)
        self.positive = np.empty((n, species, *crop), dtype=np.bool_)
        self.weight = np.empty((n, 1, *crop), dtype=np.float32)
        self.is_labelled = np.empty(n, dtype=np.bool_)
        self.negative = np.empty((n, species, *crop), dtype=np.bool_) if has_negative else None
        self.copies: list[Copy] = []  # of the particles of its labelled crops

    def paste(self, share: float, rng: np.random.Generator) -> None:
        """Paste one of the copies into each uniform crop with probability `share`."""
        for i in np.flatnonzero(~self.is_labelled):
            is_chosen, copy = rng.random() < share, self.copies[int(rng.integers(len(self.copies)))]
            changed = paste(copy, self.image[i, 0], self.positive[i], self.weight[i, 0], rng) if is_chosen else None
            if changed is not None and self.negative is not None:
                here = (i, copy.species, *changed.slices)
                self.negative[here] &= ~self.positive[here]  # a particle lies there now

    def as_tensors(self) -> Batch:
        """Return the batch as tensors that share these arrays' memory."""
        batch = Batch(*(torch.from_numpy(a) for a in (self.image, self.positive, self.weight, self.is_labelled)))
        return batch if self.negative is None else batch.corrected(torch.from_numpy(self.negative))


def _checked_pasting(pasting: Pasting | None, species: int) -> Pasting | None:
    """Return the pasting; None if it pastes nothing."""
    if pasting is not None and len(pasting.radius) != species:
        raise InputError(f"pasted particles need a radius for each of the {species} species, found {len(pasting.radius)}")
    return None if pasting is None or pasting.share == 0 else pasting


def _check_integer(name: str, value: int, least: int) -> None:
    try:
        is_good = operator.index(value) >= least
    except TypeError:
        is_good = False
    if not is_good:
        raise InputError(f"{name} must be an integer of at least {least}, found {value!r}")


def _checked_points(
    tomograms: Sequence[Volume], points: Sequence[Sequence[np.ndarray]], radius: Sequence[float | int], label_shape: str
) -> tuple[tuple[np.ndarray, ...], ...]:
    """Return the points as float64 arrays, one per tomogram and species."""
    if not tomograms or not radius:
        raise InputError(
            f"at least one tomogram and one species are needed, found {len(tomograms)} tomograms and {len(radius)} species' radii"
        )
    if len(points) != len(tomograms):
        raise InputError(
            f"points must be given for each of the {len(tomograms)} tomograms (an empty array where there are none), found {len(points)}"
        )
    for i, of_tomogram in enumerate(points):
        if len(of_tomogram) != len(radius):
            raise InputError(f"points of tomogram {i} must be one array for each of the {len(radius)} species, found {len(of_tomogram)}")
        for p in of_tomogram:
            if np.size(p) and np.shape(p)[1:] != (3,):
                raise InputError(f"points of tomogram {i} must be arrays of shape (n, 3), z y x in voxels, found shape {np.shape(p)}")
    arrays = tuple(tuple(np.ascontiguousarray(p, dtype=np.float64).reshape(-1, 3) for p in of_tomogram) for of_tomogram in points)
    for of_tomogram in arrays:
        for positions, reach in zip(of_tomogram, radius, strict=True):
            check_labels(positions, reach, label_shape, None)
    return arrays
