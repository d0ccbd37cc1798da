"""Options for the resources of a stage: declared once, added to each computing command by a decorator.

`takes_resources` is for commands without a configuration: the command gets the options as one value, `resources`.  `takes_overrides` is for
commands with a configuration, where an option that is not given leaves the configuration's value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomostream import defaults
from tomostream.cli.added_options import with_options
from tomostream.cluster import Resources, checked
from tomostream.cluster.queues import cluster_names
from tomostream.errors import InputError
from tomostream.units import parse_bytes

if TYPE_CHECKING:
    from tomostream.config import Configuration

PANEL = "Resources"


@dataclass(frozen=True, slots=True)
class _Option:
    """An option: its type, its default without a configuration, and its settings for typer."""

    name: str
    type: Any
    default: Any
    flag: str
    help: str
    more: dict[str, Any]

    def parameter(self, *, is_override: bool) -> inspect.Parameter:
        """Return the command's parameter; an override has no default, and its help says so."""
        is_told = is_override and self.default is not None
        help_text = self.help.removesuffix(".") + " (default: the configuration's)." if is_told else self.help
        told = {"help": help_text, **self.more}
        if is_told or self.default is None:
            told["show_default"] = False
        kind = self.type if self.default is not None and not is_override else self.type | None
        return inspect.Parameter(
            self.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None if is_override else self.default,
            annotation=Annotated[kind, typer.Option(self.flag, rich_help_panel=PANEL, **told)],
        )


_OPTIONS = (
    _Option("cluster", str, defaults.CLUSTER, "--cluster", "Where tasks run.", {"metavar": "|".join(cluster_names())}),
    _Option("scheduler", str, None, "--scheduler", "A running Dask scheduler.", {"metavar": "ADDRESS|FILE"}),
    _Option("workers", int, defaults.WORKERS, "--workers", "Processes; with --cluster none: threads.", {"min": 1}),
    _Option(
        "threads",
        int,
        None,
        "--threads",
        "Threads of torch (default: all cores).",
        {"min": 1},
    ),
    _Option("memory", str, defaults.MEMORY, "--memory", "Budget of one process (GB: 10^9 bytes).", {"metavar": "SIZE"}),
    _Option("gpu_memory", str, None, "--gpu-memory", "Budget on the GPU (default: 4/5 of it).", {"metavar": "SIZE"}),
    _Option(
        "cluster_option",
        list[str],
        None,
        "--cluster-option",
        "A key of the configuration's `cluster`, as walltime=02:00:00 (repeat; docs/cluster.md).",
        {"metavar": "KEY=VALUE"},
    ),
)
MEMORY = next(option for option in _OPTIONS if option.name == "memory").parameter(is_override=False).annotation


@dataclass(frozen=True, slots=True)
class Overrides:
    """Values of the command line that replace those of a configuration; None: not given."""

    cluster: str | None
    scheduler: str | None
    workers: int | None
    threads: int | None
    memory: str | None
    gpu_memory: str | None
    cluster_option: list[str] | None

    def applied_to(self, configuration: Configuration) -> Configuration:
        """Return the configuration with these values.

        Raises
        ------
        ConfigurationError, InputError
            If a value is not allowed.
        """
        from tomostream.config import with_resources

        return with_resources(
            configuration,
            kind=self.cluster,
            scheduler=self.scheduler,
            workers=self.workers,
            threads=self.threads,
            memory=self.memory,
            gpu_memory=self.gpu_memory,
            options=key_values(self.cluster_option),
        )


def takes_resources(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets them, checked, as `resources`."""
    return with_options(command, "resources", _resources, [option.parameter(is_override=False) for option in _OPTIONS])


def takes_overrides(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, without defaults, to a command, which gets them as `overrides`."""
    return with_options(command, "overrides", Overrides, [option.parameter(is_override=True) for option in _OPTIONS])


def _resources(
    *, cluster: str, memory: str, gpu_memory: str | None, cluster_option: list[str] | None, **given: str | int | None
) -> Resources:
    """Check the options (every computing stage takes all of them; `gpu_memory` and `threads` matter to those with a network).

    Raises
    ------
    InputError
        If the kind of cluster, the size or an option is unknown.
    """
    from tomostream.config import cluster_from

    if cluster not in cluster_names():
        raise InputError(f"--cluster must be one of {', '.join(cluster_names())}, found '{cluster}'")
    gpu_bytes = None if gpu_memory is None else parse_bytes(gpu_memory, "--gpu-memory")
    values = {"kind": cluster, **given} | key_values(cluster_option)
    return checked(Resources.configured(cluster_from(values), parse_bytes(memory, "--memory"), gpu_bytes))


def key_values(given: list[str] | None) -> dict[str, str | list[str]]:
    """Parse the values of --cluster-option; `options` may be given several times.

    Raises
    ------
    InputError
        If one is not KEY=VALUE, or a key is given twice.
    """
    result: dict[str, str | list[str]] = {}
    sbatch: list[str] = []
    for text in given or []:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise InputError(f"--cluster-option must be KEY=VALUE, as walltime=02:00:00, found '{text}'")
        if key in ("kind", "scheduler", "workers", "threads"):
            raise InputError(f"--cluster-option {text}: use --{'cluster' if key == 'kind' else key} instead")
        if key in result:
            raise InputError(f"--cluster-option {key} is given twice ({result[key]} and {value}); give it once")
        if key == "options":
            sbatch.append(value)
        else:
            result[key] = value
    return result | ({"options": sbatch} if sbatch else {})
