"""Model microscope and reconstruction by two factors in Fourier space, one for the density and one for the noise.

1. Geometry: tilts about x or y between two angles leave a wedge; there is little signal between discrete tilts; high tilts transfer less.
2. Contrast transfer: any defocus, with a phase plate or without, flipped or not; particles are dark.
3. White noise of the images, back-projected with a ramp, has a power that rises as the distance from the tilt axis.
4. Filters of the reconstruction act on both: low-pass, high-pass, raised low frequencies, the averaging of a coarser pyramid level.
5. Noise is scaled so that a matched filter would find a ball of the group's radius with a given signal-to-noise ratio.

Limits: one defocus for a whole volume; astigmatism and misalignment are part of the random blur.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch

from bench.pretraining.species import happens, log_uniform, uniform


@dataclass(frozen=True, slots=True)
class Optics:
    """The optics of each tomogram; all arrays are (t,).

    Parameters
    ----------
    spacing
        Angstrom per voxel.
    first_tilt, last_tilt, tilt_step
        Radians.
    is_axis_x
        The tilt axis is x instead of y.
    defocus, phase, voltage_kv, amplitude
        Angstrom; radians added by a plate; of the source; amplitude contrast.
    is_flipped
        Phases were corrected.
    blur
        Standard deviation of a Gaussian in voxels.
    fading
        Loss of signal at high tilts, natural logarithm at 60 degrees.
    softer, low_pass, high_pass
        Exponent by which low frequencies are raised; frequencies in cycles per voxel.
    is_averaged
        The volume is the mean of 2 x 2 x 2 finer voxels.
    detectability
        Signal-to-noise ratio of a matched filter for a ball of the group's radius.
    """

    spacing: torch.Tensor
    first_tilt: torch.Tensor
    last_tilt: torch.Tensor
    tilt_step: torch.Tensor
    is_axis_x: torch.Tensor
    defocus: torch.Tensor
    phase: torch.Tensor
    voltage_kv: torch.Tensor
    amplitude: torch.Tensor
    is_flipped: torch.Tensor
    blur: torch.Tensor
    fading: torch.Tensor
    softer: torch.Tensor
    low_pass: torch.Tensor
    high_pass: torch.Tensor
    is_averaged: torch.Tensor
    detectability: torch.Tensor


def draw_optics(spacing: torch.Tensor, per_group: int, generator: torch.Generator) -> Optics:
    """Draw the optics of `per_group` tomograms for each group; `spacing` (g,).

    Tomograms of a group have the same microscope and reconstruction, and different defocus, thickness and noise.
    """
    g = len(spacing)

    def shared(values: torch.Tensor) -> torch.Tensor:
        return values.repeat_interleave(per_group)

    def varied(values: torch.Tensor, factor: float) -> torch.Tensor:
        return shared(values) * log_uniform((g * per_group,), 1 / factor, factor, generator)

    has_plate = happens((g,), 0.35, generator)
    return Optics(
        spacing=shared(spacing),
        first_tilt=shared(-torch.deg2rad(uniform((g,), 42.0, 70.0, generator))),
        last_tilt=shared(torch.deg2rad(uniform((g,), 42.0, 70.0, generator))),
        tilt_step=shared(torch.deg2rad(uniform((g,), 1.0, 4.0, generator))),
        is_axis_x=shared(happens((g,), 0.5, generator)),
        defocus=varied(torch.where(has_plate, log_uniform((g,), 3e3, 1.5e4, generator), log_uniform((g,), 1.5e4, 7e4, generator)), 1.5),
        phase=shared(has_plate * uniform((g,), 0.3, 0.65, generator) * math.pi),
        voltage_kv=shared(200.0 + 100.0 * happens((g,), 0.8, generator)),
        amplitude=shared(uniform((g,), 0.05, 0.12, generator)),
        is_flipped=shared(happens((g,), 0.4, generator)),
        blur=varied(uniform((g,), 0.35, 0.9, generator), 1.2),
        fading=varied(uniform((g,), 0.05, 1.2, generator), 1.3),
        softer=shared(happens((g,), 0.4, generator) * uniform((g,), 0.0, 1.0, generator)),
        low_pass=shared(log_uniform((g,), 0.2, 2.0, generator)),
        high_pass=shared(happens((g,), 0.4, generator) * log_uniform((g,), 0.002, 0.03, generator)),
        is_averaged=shared(happens((g,), 0.6, generator)),
        detectability=varied(log_uniform((g,), 7.0, 70.0, generator), 1.8),
    )


@dataclass(frozen=True, slots=True)
class Transfer:
    """Factors on the half grid of a real transform, (t, n, n, n / 2 + 1): of the density's spectrum, and of white noise's (scaled)."""

    signal: torch.Tensor
    noise: torch.Tensor
    clean: torch.Tensor  # of the density that the network is to see: the blur alone


def transfer_of(optics: Optics, radius: torch.Tensor, edge: int) -> Transfer:
    """Return the factors of each tomogram; `radius` (t,) is that of the ball in `Optics.detectability`, voxels."""
    device = radius.device
    t = len(radius)
    fz = torch.fft.fftfreq(edge, device=device)[None, :, None, None]
    fy = torch.fft.fftfreq(edge, device=device)[None, None, :, None]
    fx = torch.fft.rfftfreq(edge, device=device)[None, None, None, :]

    def per(values: torch.Tensor) -> torch.Tensor:
        return values.reshape(t, 1, 1, 1)

    squared = (fz**2 + fy**2 + fx**2).expand(t, -1, -1, -1)
    across = torch.where(per(optics.is_axis_x), fy, fx)
    along_beam = fz * torch.where(across < 0, -1.0, 1.0)
    distance = (across**2 + fz**2).sqrt()
    tilt = torch.atan2(along_beam, across.abs())
    # angular distance to the measured range, and to the nearest of the tilts, in steps of the grid
    beyond = (tilt - per(optics.last_tilt)).clamp_min(0) + (per(optics.first_tilt) - tilt).clamp_min(0)
    step = per(optics.tilt_step)
    between = ((tilt - per(optics.first_tilt)) / step + 0.5) % 1 - 0.5
    off = torch.where(beyond > 0, beyond, between.abs() * step)
    seen = torch.exp(-((distance * edge * torch.sin(off.clamp_max(math.pi / 2)) / 0.75) ** 2))
    fading = torch.exp(-per(optics.fading) * (tilt / (math.pi / 3)) ** 2)
    contrast = _contrast(squared / per(optics.spacing) ** 2, optics, per)
    blur = torch.exp(-2 * math.pi**2 * per(optics.blur) ** 2 * squared)
    filters = torch.exp(-squared / per(optics.low_pass) ** 2) * ((squared.sqrt() + 0.03) * 4) ** -per(optics.softer)
    filters = filters * torch.where(per(optics.high_pass) > 0, 1 - torch.exp(-squared / per(optics.high_pass).clamp_min(1e-4) ** 2), 1.0)
    averaged = torch.cos(math.pi / 2 * fz) * torch.cos(math.pi / 2 * fy) * torch.cos(math.pi / 2 * fx)
    filters = filters * torch.where(per(optics.is_averaged), averaged, 1.0)
    # without the filters, which signal and noise have in common
    signal = seen * fading * contrast * blur
    noise = seen * (distance + 0.25 / edge).sqrt()
    k = 2 * math.pi * squared.sqrt() * per(radius)
    ball = 3 * (torch.sin(k) - k * torch.cos(k)) / k.clamp_min(0.05) ** 3
    ball = torch.where(k < 0.05, 1.0, ball) * per(4 / 3 * math.pi * radius**3)
    # the half grid stands for the whole
    twice = 2.0 - (torch.arange(edge // 2 + 1, device=device) % (edge // 2) == 0).float()
    floor = 1e-3
    power = (twice * (ball * signal) ** 2 / (noise**2 + floor**2)).sum((1, 2, 3)) / edge**3
    scale = power.sqrt() / optics.detectability
    return Transfer(signal * filters, noise * filters * per(scale), blur)


def _contrast(squared: torch.Tensor, optics: Optics, per: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return the contrast transfer, negative where protein is dark; `squared` in 1 / square angstrom."""
    volt = per(optics.voltage_kv) * 1e3
    wavelength = 12.2643 / torch.sqrt(volt + 0.978466e-6 * volt**2)
    chi = math.pi * wavelength * squared * (per(optics.defocus) - 0.5 * wavelength**2 * squared * 2.7e7)
    value = -torch.sin(chi + per(optics.phase) + torch.asin(per(optics.amplitude)))
    return torch.where(per(optics.is_flipped), -value.abs(), value)
