"""The training loop: simulate, train, save.  It can be killed at any moment, and resumes from its last checkpoint.

- A tomogram's volumes pass the network together, alone: batch-norm normalises by the statistics of one tomogram, as in prediction.
- The learning rate falls with the share of the minutes (or steps) used.  The random numbers of a step come from the seed and its number.
- A moving average of the weights is saved.
- Only a line of the log every few seconds waits for the device.  A step whose gradient is not finite changes nothing, and is counted.
"""

import hashlib
import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from bench.pretraining.backbone import Backbone
from bench.pretraining.episodes import Group, group_loss
from bench.pretraining.simulating import Batch, Sizes, simulate
from tomostream.learn.precision import resolve_precision

SCHEMA = 1
_WEIGHTS = {"density": 0.5, "sizes": 1.0, "same": 0.7, "other": 1.3}
_CHECKPOINT_SECONDS = 30.0
_LOG_SECONDS = 5.0
_WARM_UP = 0.03  # share of the training
_DECAY = 0.997  # of the moving average


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of a training; they must be equal to resume it."""

    channels: tuple[int, ...]
    seed: int
    learning_rate: float
    groups_a_step: int  # of the simulated groups: many are simulated at a time, since each kernel's launch costs
    sizes: Sizes


@dataclass(slots=True)
class Progress:
    """How far the training is."""

    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    voxels: int = 0


def train(  # noqa: PLR0915  (one loop, read from top to bottom)
    folder: Path, settings: Settings, *, minutes: float, steps: int | None, device: torch.device, stop_after: float | None = None
) -> None:
    """Train until the minutes or the steps are used up, and write `backbone.safetensors` and `backbone.json`.

    Parameters
    ----------
    folder
        Created if needed; also holds the checkpoint.
    minutes
        Time of training, all runs together; the time used is in the checkpoint.
    steps
        None: as many as fit in the time.  Else the training ends after so many steps, whatever the time; a simulated batch is used up.
    stop_after
        Seconds after which this run ends with a checkpoint.
    """
    begun = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    on_gpu = device.type == "cuda"
    if on_gpu:
        torch.backends.cudnn.benchmark = True
    backbone = Backbone(settings.channels, seed=settings.seed).to(device)
    average = {name: value.detach().clone() for name, value in backbone.named_parameters()}
    optimiser = torch.optim.AdamW(backbone.parameters(), lr=settings.learning_rate, weight_decay=1e-4, betas=(0.9, 0.98), fused=on_gpu)
    progress = Progress()
    checkpoint = folder / "checkpoint.pt"
    if checkpoint.exists():
        progress = _load(checkpoint, settings, backbone, average, optimiser, device)
        print(f"goes on from step {progress.step}, {progress.seconds:.0f} s", flush=True)
    formats = torch.contiguous_format
    in_bf16 = resolve_precision("auto", device) == "bf16"
    if on_gpu:
        formats = _faster_layout(backbone, settings, device)
    backbone.to(memory_format=formats)
    backbone.train()
    skipped = torch.zeros((), device=device)
    totals: dict[str, torch.Tensor] = {}
    counted = 0
    start = last_log = last_save = time.monotonic()
    start_step, start_voxels, before = progress.step, progress.voxels, progress.seconds

    def share_used() -> float:
        if steps is not None:
            return progress.step / steps
        return (before + time.monotonic() - start) / (60 * minutes)

    while share_used() < 1:
        generator = torch.Generator(device).manual_seed((settings.seed * 1_000_003 + progress.step) % (2**62))
        groups = _groups(simulate(settings.sizes, generator))
        for first in range(0, len(groups), settings.groups_a_step):
            rate = _rate(share_used()) * settings.learning_rate
            for part in optimiser.param_groups:
                part["lr"] = rate
            some = groups[first : first + settings.groups_a_step]
            losses, finite = _step(backbone, optimiser, some, generator, formats, in_bf16)
            skipped += ~finite
            decay = min(_DECAY, (1 + progress.step) / (10 + progress.step))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), [p.detach() for p in backbone.parameters()], 1 - decay)
            for name, value in losses.items():
                totals[name] = totals.get(name, 0) + torch.nan_to_num(value)
            counted += 1
            progress.step += 1
            progress.voxels += sum(group.image.numel() for group in some)
        # the device's queue holds a thousand launches: the clock is ahead of it by less than a second
        now = time.monotonic()
        if now - last_log > _LOG_SECONDS or counted == progress.step - start_step < 4 * settings.groups_a_step:
            means = {name: float(value) / counted for name, value in totals.items()}
            progress.skipped += int(skipped)
            skipped.zero_()
            speed = (progress.voxels - start_voxels) / (now - start) / 1e6
            told = " ".join(f"{name} {value:.4f}" for name, value in means.items())
            memory = f" {torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if on_gpu else ""
            print(
                f"step {progress.step} {before + now - start:.0f} s {speed:.2f} Mvox/s lr {rate:.1e} skipped {progress.skipped}{memory} {told}",
                flush=True,
            )
            with (folder / "metrics.jsonl").open("a") as log:
                log.write(json.dumps({"step": progress.step, "seconds": round(before + now - start, 1), **means}) + "\n")
            totals, counted, last_log = {}, 0, now
        leaves = stop_after is not None and now - begun > stop_after
        if now - last_save > _CHECKPOINT_SECONDS or leaves:
            progress.seconds = before + time.monotonic() - start
            _save(checkpoint, settings, backbone, average, optimiser, progress)
            last_save = time.monotonic()
        if leaves:
            print("left, with a checkpoint", flush=True)
            return
    progress.seconds = before + time.monotonic() - start
    progress.skipped += int(skipped)
    _save(checkpoint, settings, backbone, average, optimiser, progress)
    export(folder, settings, backbone, average, progress, device)


def _rate(share: float) -> float:
    warm = min(1.0, (share + 1e-3) / _WARM_UP)
    return warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, share))))


def _groups(batch: Batch) -> list[Group]:
    return [
        Group(batch.image[g], batch.clean[g], batch.position[g], batch.species[g], batch.is_there[g], batch.radius[g])
        for g in range(len(batch.image))
    ]


def _step(
    backbone: Backbone,
    optimiser: torch.optim.Optimizer,
    groups: list[Group],
    generator: torch.Generator,
    formats: torch.memory_format,
    in_bf16: bool,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Take one step on some groups; return the parts of the loss, and whether the gradient was finite."""
    optimiser.zero_grad(set_to_none=True)
    device = groups[0].image.device
    told: dict[str, torch.Tensor] = {}
    for group in groups:
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=in_bf16):
            features = [backbone(image[:, None].contiguous(memory_format=formats)) for image in group.image]
        losses = group_loss(backbone, features, group, generator)
        total = sum(_WEIGHTS[name] * value for name, value in losses.items()) / len(groups)
        total.backward()
        for name, value in losses.items():
            told[name] = told.get(name, torch.zeros((), device=device)) + value.detach() / len(groups)
    norm = torch.nn.utils.clip_grad_norm_(backbone.parameters(), 1.0)
    finite = torch.isfinite(norm)
    for parameter in backbone.parameters():
        if parameter.grad is not None:
            parameter.grad = torch.where(finite, parameter.grad, 0.0)
    optimiser.step()
    return told, finite


def _faster_layout(backbone: Backbone, settings: Settings, device: torch.device) -> torch.memory_format:
    """Measure which memory layout trains faster here, and return it."""
    times = {}
    sizes = settings.sizes
    image = torch.randn((sizes.volumes, 1, sizes.edge, sizes.edge, sizes.edge), device=device)
    for layout in (torch.contiguous_format, torch.channels_last_3d):
        backbone.to(memory_format=layout)
        for repeat in range(6):
            if repeat == 3:
                torch.cuda.synchronize()
                start = time.monotonic()
            with torch.autocast("cuda", dtype=torch.bfloat16):
                backbone(image.contiguous(memory_format=layout)).float().square().mean().backward()
        torch.cuda.synchronize()
        times[layout] = (time.monotonic() - start) / 3
        backbone.zero_grad(set_to_none=True)
    for layout, seconds in times.items():
        print(f"{layout}: {image.numel() / seconds / 1e6:.1f} Mvox/s forward and backward", flush=True)
    return min(times, key=times.__getitem__)


def _save(
    path: Path,
    settings: Settings,
    backbone: Backbone,
    average: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    progress: Progress,
) -> None:
    partial = path.with_suffix(".partial")
    torch.save(
        {
            "settings": json.dumps(asdict(settings)),
            "backbone": backbone.state_dict(),
            "average": average,
            "optimiser": optimiser.state_dict(),
            "progress": asdict(progress),
        },
        partial,
    )
    os.replace(partial, path)


def _load(
    path: Path,
    settings: Settings,
    backbone: Backbone,
    average: dict[str, torch.Tensor],
    optimiser: torch.optim.Optimizer,
    device: torch.device,
) -> Progress:
    state = torch.load(path, map_location=device, weights_only=True)
    wanted = json.dumps(asdict(settings))
    if state["settings"] != wanted:
        raise SystemExit(
            f"{path} was made with {state['settings']}, and this run has {wanted}; choose another folder, or the same settings"
        )
    backbone.load_state_dict(state["backbone"])
    for name, value in state["average"].items():
        average[name].copy_(value)
    optimiser.load_state_dict(state["optimiser"])
    return Progress(**state["progress"])


def export(
    folder: Path,
    settings: Settings,
    backbone: Backbone,
    average: dict[str, torch.Tensor],
    progress: Progress,
    device: torch.device,
) -> None:
    """Write the averaged weights, float16, with batch-norm statistics of fresh simulations, and what made them."""
    with torch.no_grad():
        for name, value in backbone.named_parameters():
            value.copy_(average[name])
    norms = [module for module in backbone.modules() if isinstance(module, torch.nn.BatchNorm3d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    with torch.no_grad():
        for number in range(max(1, 8 // settings.sizes.groups)):
            generator = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + 500_000 + number)
            for group in _groups(simulate(settings.sizes, generator)):
                for image in group.image:
                    backbone(image[:, None])
    state = {
        name: value.detach().to("cpu", torch.float16).contiguous()
        for name, value in backbone.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    broken = [name for name, value in state.items() if not torch.isfinite(value).all()]
    if broken:
        raise SystemExit(f"weights that are not finite: {broken}; the training diverged, lower --learning-rate")
    path = folder / "backbone.safetensors"
    # a single entry, because the order of several is random and would change the bytes
    save_file(state, str(path), metadata={"backbone": json.dumps({"schema": SCHEMA, "channels": settings.channels})})
    told = {
        "schema": SCHEMA,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "bytes": path.stat().st_size,
        "settings": asdict(settings),
        "progress": asdict(progress),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.machine(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "numpy": np.__version__},
    }
    (folder / "backbone.json").write_text(json.dumps(told, indent=1) + "\n")
    print(
        f"wrote {path}: {told['bytes']} bytes, {progress.step} steps, {progress.voxels / 1e9:.2f} Gvox, sha256 {told['sha256']}", flush=True
    )


def load_backbone(path: Path) -> Backbone:
    """Load a pretrained backbone, float32, in evaluation mode.

    Parameters
    ----------
    path
        `backbone.safetensors`.
    """
    from safetensors import safe_open

    with safe_open(str(path), "pt") as file:
        channels = tuple(json.loads(file.metadata()["backbone"])["channels"])
    backbone = Backbone(channels, seed=0)
    backbone.load_state_dict({name: value.float() for name, value in load_file(str(path)).items()}, strict=False)
    return backbone.eval()
