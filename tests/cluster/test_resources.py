import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomostream.cluster import Resources, checked
from tomostream.cluster.resources import seconds_of
from tomostream.config import Cluster, cluster_from
from tomostream.errors import ConfigurationError, InputError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 5400),  # SLURM's forms: minutes
        ("2:30", 150),  # minutes:seconds
        ("04:00:00", 14400),
        ("1-12", 129600),
        ("1-12:30", 131400),
        ("1-00:00:01", 86401),
        ("55m", 3300),
        ("20s", 20),
        ("2h", 7200),
    ],
)
def test_times_are_read_as_slurm_and_dask_write_them(text, seconds):
    assert seconds_of(text, "walltime") == seconds


@pytest.mark.parametrize("text", ["", "0", "00:00:00", "4 hours", "1:2:3:4", "-5", "1.5h"])
def test_other_times_are_refused(text):
    with pytest.raises(InputError, match="walltime: a time such as"):
        seconds_of(text, "walltime")


@given(seconds=st.integers(60, 14 * 86400))
def test_every_worker_leaves_before_its_walltime_and_not_at_once(seconds):
    lifetime, stagger = Resources(kind="slurm", walltime=f"{seconds}s").leave()
    assert lifetime - stagger > 0
    assert lifetime + stagger < seconds
    assert lifetime + stagger >= 0.85 * seconds  # most of the walltime is used


def test_a_lifetime_beyond_the_walltime_is_refused_before_any_job():
    with pytest.raises(InputError, match=r"lifetime 3600 s with stagger 360 s does not fit the walltime of 3600 s"):
        checked(Resources(kind="slurm", walltime="01:00:00", lifetime="1h"))


def test_the_configurations_cluster_becomes_the_settings():
    given_keys = {"kind": "slurm", "queue": "gpu", "gpus": "2", "options": ["--nice"], "walltime": "08:00:00", "port": "8786"}
    settings = Resources.configured(cluster_from(given_keys), 10**9)
    assert settings == Resources(kind="slurm", queue="gpu", gpus=2, options=("--nice",), walltime="08:00:00", port=8786, memory=10**9)
    assert settings.processes == 2
    assert set(Cluster.model_fields) == set(Resources.__dataclass_fields__) - {"memory", "gpu_memory"}


def test_a_time_that_yaml_takes_for_a_number_is_refused_with_the_remedy():
    with pytest.raises(ConfigurationError, match=r'cluster.walltime: write a time in quotes, as "12:00:00"; YAML read 43200 instead'):
        cluster_from({"walltime": 43200})


def test_a_wrong_key_names_the_nearest():
    with pytest.raises(ConfigurationError, match=r"unknown key 'cluster\.waltime'; did you mean 'walltime'"):
        cluster_from({"waltime": "1h"})
