"""The configuration of `train` and `run`: one YAML file with known keys only and defaults from `defaults`.

Paths are relative to the current folder, as in a shell.
"""

from tomostream.config.configuration import Configuration
from tomostream.config.loading import cluster_from, configuration_from, configuration_values, load_configuration, with_resources
from tomostream.config.sections import Cluster, Species

__all__ = [
    "Cluster",
    "Configuration",
    "Species",
    "cluster_from",
    "configuration_from",
    "configuration_values",
    "load_configuration",
    "with_resources",
]
