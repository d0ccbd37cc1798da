"""What each of torchrun's processes does in the tests of `learn.processes`: half of a batch, and what it comes to, saved by its rank."""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from tomostream.errors import PeerEndedError
from tomostream.learn.batch import Batch
from tomostream.learn.fit import Lesson, fit
from tomostream.learn.objectives import Objective, make_objective
from tomostream.learn.processes import ALONE, Processes, joined
from tomostream.learn.shared_norm import with_shared_norms
from tomostream.learn.steps import FitSettings
from tomostream.strategies.deepetpicker.loss import Dice
from tomostream.strategies.slices2d.detector import SliceDetector
from tomostream.strategies.slices2d.single_shot import SingleShot
from tomostream.strategies.unet.network import ResidualUNet

EDGE = 8
SETTINGS = FitSettings(
    steps=6, minutes=None, steps_per_epoch=2, learning_rate=1e-2, schedule="plateau", weight_decay=0.01, precision="float32", device="cpu"
)


def made(name, **values):
    usual = {"weight": 2.0, "order": "prior_to_pu", "labelled_fraction": [0.02, 0.01], "expected_fraction": [0.2, 0.1]}
    return make_objective(name, particle_voxels=[30.0, 60.0], **usual | values)


OBJECTIVES = {
    "pn": made("pn"),
    "nnpu": made("nnpu"),
    "nnpu violated": made("nnpu", expected_fraction=[0.9999, 0.9999]),
    "kl prior_to_pu": made("kl"),
    "kl pu_to_prior": made("kl", order="pu_to_prior"),
    "ge_binomial": made("ge_binomial"),
    "dice": Objective("deepetpicker", (Dice(), Dice()), (1.0, 1.0), ()),
    "slices2d": SingleShot(4, (5.0, 6.0), 5.0, 1.0, 1.0, 1.0),
}


def batch_of(first, last, seed=0):
    """Crops first to last of a batch of four; all labels lie in the first two, so that one process of two has none."""
    rng = np.random.default_rng(seed)
    image = rng.normal(size=(4, 1, EDGE, EDGE, EDGE)) * np.array([1, 2, 3, 0.5])[:, None, None, None, None] + 0.3
    positive = np.zeros((4, 2, EDGE, EDGE, EDGE), dtype=bool)
    positive[0, 0, 2:5, 2:5, 2:5] = positive[1, 1, 4:6, 4:6, 1:3] = positive[1, 0, 6, 6, 6] = True
    weight = rng.uniform(0.1, 3, size=(4, 1, EDGE, EDGE, EDGE))
    tensors = (
        torch.tensor(image, dtype=torch.float32),
        torch.tensor(positive),
        torch.tensor(weight, dtype=torch.float32),
        torch.tensor([True, True, False, False]),
    )
    return Batch(*(tensor[first:last] for tensor in tensors))


def share_of(processes: Processes, seed=0):
    size = 4 // processes.world
    return batch_of(processes.rank * size, (processes.rank + 1) * size, seed)


def network_for(name):
    return SliceDetector((4, 8, 8), 2, seed=1) if name == "slices2d" else ResidualUNet((3, 4), 2, seed=1, prior=[0.3, 0.2])


def step(name, processes):
    """Loss, terms, gradients and running statistics of one step of this process."""
    network = network_for(name)
    learner = with_shared_norms(network, processes).train()
    batch = share_of(processes)
    loss = replace(OBJECTIVES[name], processes=processes)(learner(batch.image), batch)
    loss.total.backward()
    processes.average_gradients(network)
    statistics = {key: value.clone() for key, value in network.state_dict().items() if "running" in key or "tracked" in key}
    return {"terms": loss.terms, "gradients": {key: p.grad for key, p in network.named_parameters()}, "statistics": statistics}


def trained(processes, folder, **changes):
    """A short training in which the first process validates; its metrics fall."""
    network = ResidualUNet((2, 4), 2, seed=0, prior=[0.1, 0.1])
    told = []

    def validate(candidate):
        assert processes.is_first
        told.append(1)
        return {"criterion": -float(len(told))}

    lesson = Lesson(
        batches=lambda epoch: (share_of(processes, 100 * epoch + i) for i in range(9)),
        objective=replace(OBJECTIVES["nnpu"], processes=processes),
        validate=validate,
        recalibrate=lambda: [batch_of(0, 4).image],
    )
    result = fit(
        network,
        lesson,
        replace(SETTINGS, **changes),
        folder=folder if processes.is_first else None,
        fingerprint={},
        report=lambda steps, note: None,
        processes=processes,
    )
    return {"weights": network.state_dict(), "rows": result.rows, "steps": result.steps}


def everything(processes, folder):
    return {
        "steps": {name: step(name, processes) for name in OBJECTIVES},
        "trained": trained(processes, folder / "fit"),
        # each process's own clock would end it at another step
        "timed": trained(processes, folder / "timed", steps=10**6, steps_per_epoch=5, minutes=0.01),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    with joined("cpu") as group:
        assert group != ALONE
        torch.save(everything(group, folder), folder / f"{group.rank}.pt")
        if not group.is_first:
            os._exit(0)  # without a farewell, as one that is killed; with 0, so that torchrun leaves the first alone
        try:
            group.total(torch.ones(3))
        except PeerEndedError as error:
            (folder / "told").write_text(str(error))
            os._exit(0)  # torch's threads abort now and then when they end alone
