"""The single-shot loss: objectness, centre and class in one sum over the cells of all slices.

    loss = a sum over cells with a box     of  -log P(object)
         + b sum over cells without one    of  -log (1 - P(object))        except where the predicted box overlaps a true one well
         + c sum over cells with a box     of  (y - y*)^2 + (x - x*)^2     in units of the cell
         + d sum over cells with a box     of  -log P(class | object)      if there are several classes

divided by the number of slices.  The first YOLO fits probabilities by least squares; here they are fitted by cross-entropy, as in YOLOv3.

1. In a batch, each box is marked on every slice by the voxel in which its centre lies (`slabs`).  The cell that holds this voxel is responsible for
   the box.
2. All other cells are background, including those on unlabelled particles: the loss assumes complete labels.

References
----------
Redmon, Divvala, Girshick, Farhadi 2016, "You only look once"; Redmon, Farhadi 2017, "YOLO9000" (cells whose predicted box overlaps a true one are ignored); Redmon, Farhadi
2018, "YOLOv3"; Wagner et al. 2019 (crYOLO; scales of 5 for objects, 1 for everything else).
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Float32
from torch.nn import functional as F

from tomostream.learn.batch import Batch
from tomostream.learn.objectives import Loss
from tomostream.learn.processes import ALONE, Processes
from tomostream.strategies.slices2d.detector import CENTRE_X, CENTRE_Y, CLASSES, OBJECT

LET_OFF_OVERLAP = (
    0.5  # a cell that is not responsible is ignored if its box overlaps a true one by more than this (intersection over union)
)


class Targets(NamedTuple):
    """The true boxes of the cells."""

    has_box: Bool[torch.Tensor, "n s z v u"]  # whether a box of the class is centred in the cell
    centre: Float32[torch.Tensor, "n 2 z v u"]  # y and x of the centre in the cell, 0 to 1; 0 without a box


@dataclass(frozen=True, slots=True)
class SingleShot:
    """The single-shot loss.

    Parameters
    ----------
    stride
        Edge of a cell, in pixels.
    box
        Edge of a box of each species, in pixels; the diameter of the particle.
    object_weight, background_weight, centre_weight, class_weight
        The weights a, b, c, d of the formula.
    processes
        The processes that train together; sums and the number of slices are those of all processes.
    """

    stride: int
    box: tuple[float, ...]
    object_weight: float
    background_weight: float
    centre_weight: float
    class_weight: float
    processes: Processes = ALONE

    def __call__(self, logits: Float[torch.Tensor, "n c z v u"], batch: Batch) -> Loss:
        """Compute the loss of a detector's outputs for a batch in which `positive` marks the centres of boxes."""
        numbers = logits.float()
        targets = cell_targets(batch.positive, self.stride)
        has_box = targets.has_box.any(dim=1)
        slices = numbers.shape[0] * numbers.shape[2] * self.processes.world  # every process has the same number

        def total_of(values: torch.Tensor) -> torch.Tensor:
            return self.processes.total(values.sum())

        predicted = torch.sigmoid(numbers[:, [CENTRE_Y, CENTRE_X]])
        is_let_off = self._overlaps(predicted.detach(), targets)
        objectness = numbers[:, OBJECT]
        terms = {
            "object": self.object_weight * total_of(F.softplus(-objectness) * has_box) / slices,
            "background": self.background_weight * total_of(F.softplus(objectness) * ~(has_box | is_let_off)) / slices,
            "centre": self.centre_weight * total_of(((predicted - targets.centre) ** 2).sum(dim=1) * has_box) / slices,
        }
        if numbers.shape[1] > CLASSES:
            unlikely = -F.log_softmax(numbers[:, CLASSES:], dim=1)
            terms["class"] = self.class_weight * total_of(unlikely * targets.has_box) / slices
        total = torch.stack(list(terms.values())).sum()
        return Loss(total, {"loss": total.detach()} | {name: value.detach() for name, value in terms.items()})

    def _overlaps(self, predicted: Float32[torch.Tensor, "n 2 z v u"], targets: Targets) -> Bool[torch.Tensor, "n z v u"]:
        """Return whether the predicted box of a cell overlaps a true box by more than `LET_OFF_OVERLAP`."""
        height, width = predicted.shape[3:]
        result = torch.zeros_like(targets.has_box[:, 0])
        for species, box in enumerate(self.box):
            true = targets.has_box[:, species]
            near = int(box / self.stride) + 1
            padded_true = F.pad(true, (near, near, near, near))
            padded_centre = F.pad(targets.centre, (near, near, near, near))
            for dv, du in itertools.product(range(-near, near + 1), repeat=2):
                rows, columns = slice(near + dv, near + dv + height), slice(near + du, near + du + width)
                if not padded_true[..., rows, columns].any():
                    continue
                centre = padded_centre[..., rows, columns]
                apart = [(offset + centre[:, axis] - predicted[:, axis]).abs() * self.stride / box for axis, offset in ((0, dv), (1, du))]
                shared = (1 - apart[0]).clamp_min(0) * (1 - apart[1]).clamp_min(0)
                result |= padded_true[..., rows, columns] & (shared / (2 - shared) > LET_OFF_OVERLAP)
        return result


def cell_targets(marked: Bool[torch.Tensor, "n s z y x"], stride: int) -> Targets:
    """Return the targets of the cells on slices where boxes are marked by the voxel of their centre.

    If there are several centres in a cell, their mean is taken.

    Parameters
    ----------
    marked
        True at centres; the lengths of y and x are multiples of the stride.
    stride
        Edge of a cell, in voxels.
    """
    here = marked.any(dim=1, keepdim=True).float()
    pool = (1, stride, stride)
    place = (torch.arange(marked.shape[3], device=marked.device) % stride + 0.5) / stride
    place_x = (torch.arange(marked.shape[4], device=marked.device) % stride + 0.5) / stride
    share = F.avg_pool3d(here, pool)
    y, x = F.avg_pool3d(here * place[:, None], pool), F.avg_pool3d(here * place_x, pool)
    centre = torch.cat([y, x], dim=1) / share.clamp_min(torch.finfo(share.dtype).tiny)
    return Targets(F.max_pool3d(marked.float(), pool) > 0, centre)
