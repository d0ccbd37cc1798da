import cluster_tasks
import dask
import distributed  # noqa: F401  # brings its configuration's defaults, which dask.config.set would otherwise take away again at its end
import pytest
from cluster_support import Heard, start, stop
from cluster_tls import tls

from tomostream.cluster import Resources, open_pool
from tomostream.cluster.security import configured, is_loopback, warn_if_open
from tomostream.errors import InputError
from tomostream.progress import Progress

pytestmark = pytest.mark.slow


def options_of(folder):
    return ["--tls-ca-file", str(folder / "cert.pem"), "--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]


def test_through_tls_with_dasks_own_settings_and_not_without(certificates, tmp_path):
    file = tmp_path / "scheduler.json"
    common = ["--scheduler-file", str(file), *options_of(certificates), "--no-dashboard"]
    scheduler = start(tmp_path, "scheduler", *common, "--protocol", "tls", "--host", "127.0.0.1", "--port", "0", name="scheduler")
    worker = start(tmp_path, "worker", *common, "--nthreads", "1", "--no-nanny", "--host", "127.0.0.1", name="worker")
    try:
        while not (file.exists() and file.read_text().strip().endswith("}")):
            assert scheduler.poll() is None, (tmp_path / "scheduler.log").read_text()
        heard = Heard()
        with dask.config.set(tls(certificates)), open_pool(Resources(scheduler=str(file)), heard) as pool:
            assert dict(pool.run(cluster_tasks.square, range(3))) == {0: 0, 1: 1, 2: 4}
        assert not any("encrypted" in text for text in heard.texts)
        with (
            pytest.raises(InputError, match=r"no Dask scheduler answers there .*TLS"),
            open_pool(Resources(scheduler=str(file)), Progress()),
        ):
            pass
    finally:
        stop(worker, scheduler)


def test_a_local_cluster_is_encrypted_where_dask_requires_it(certificates):
    with dask.config.set(tls(certificates)), open_pool(Resources(kind="local", workers=1), Progress()) as pool:
        assert pool._client.scheduler.address.startswith("tls://127.0.0.1:")
        assert dict(pool.run(cluster_tasks.square, [3])) == {3: 9}


def test_required_encryption_without_certificates_is_refused():
    with dask.config.set({"distributed.comm.require-encryption": True}), pytest.raises(InputError, match="names no certificates"):
        configured()


def test_settings_that_are_incomplete_name_the_key(certificates, tmp_path):
    with (
        dask.config.set(tls(certificates) | {"distributed.comm.tls.worker.cert": None}),
        pytest.raises(InputError, match=r"distributed\.comm\.tls\.worker\.cert is missing"),
    ):
        configured()
    with (
        dask.config.set(tls(certificates) | {"distributed.comm.tls.ca-file": str(tmp_path / "gone.pem")}),
        pytest.raises(InputError, match=r"tls\.ca-file is .*gone\.pem"),
    ):
        configured()


def test_an_open_connection_is_told_unless_it_stays_on_this_machine():
    heard = Heard()
    for address in ("tcp://127.0.0.1:1", "tcp://[::1]:1", "tcp://localhost:1", "tls://10.0.0.1:1"):
        warn_if_open(address, heard)
    assert heard.texts == []
    warn_if_open("tcp://10.0.0.1:8786", heard)
    assert "not encrypted" in heard.texts[0]
    assert "tcp://10.0.0.1:8786" in heard.texts[0]
    assert not is_loopback("tcp://somewhere.example:8786")
