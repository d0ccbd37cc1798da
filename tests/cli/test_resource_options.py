"""The options of resources are those of every computing command, and reach it as one value."""

import inspect

import pytest
import typer
from typer.testing import CliRunner

from tomostream.cli import data, learning, pipeline
from tomostream.cli.resource_options import Overrides, takes_overrides, takes_resources
from tomostream.cluster import Resources
from tomostream.config import configuration_from

NAMES = ["cluster", "scheduler", "workers", "threads", "memory", "gpu_memory", "cluster_option"]
COMMANDS = [data.convert, data.stats, data.labels, learning.train, learning.predict, learning.pick, pipeline.run]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_computing_command_has_all_of_them_last(command):
    assert list(inspect.signature(command).parameters)[-len(NAMES) :] == NAMES


def run(decorator, *arguments):
    """What a command is called with."""
    got = []
    app = typer.Typer()

    def command(name: str, *, resources: Resources) -> None:
        got.append((name, resources))

    def overriding(name: str, *, overrides: Overrides) -> None:
        got.append((name, overrides))

    app.command()(decorator(command if decorator is takes_resources else overriding))
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return got[0]


def test_a_command_gets_them_as_one_checked_value():
    assert run(takes_resources, "x") == ("x", Resources())
    given = ["--cluster", "slurm", "--workers", "3", "--threads", "2", "--memory", "1GB", "--gpu-memory", "4GB"]
    more = ["--cluster-option", "queue=gpu", "--cluster-option", "options=--nice", "--cluster-option", "options=--exclusive"]
    found = run(takes_resources, "x", *given, *more)[1]
    assert found == Resources(
        kind="slurm",
        workers=3,
        threads=2,
        memory=10**9,
        gpu_memory=4 * 10**9,
        queue="gpu",
        options=("--nice", "--exclusive"),
    )


def test_what_is_not_given_leaves_the_configurations_value():
    values = {
        "project": "p",
        "tomograms": ["a.mrc"],
        "species": [{"name": "ribosome", "radius": "135A"}],
        "labels": {"train": ["c.csv"]},
        "cluster": {"workers": 5, "threads": 2},
        "memory": "3GB",
    }
    configuration = configuration_from(values, "test")
    nothing = run(takes_overrides, "x")[1]
    assert nothing == Overrides(*[None] * len(NAMES))
    assert nothing.applied_to(configuration) == configuration
    some = run(takes_overrides, "x", "--workers", "1", "--memory", "1GB", "--cluster-option", "queue=q")[1]
    changed = some.applied_to(configuration)
    assert (changed.cluster.workers, changed.cluster.threads, changed.cluster.queue, changed.memory) == (1, 2, "q", "1GB")
