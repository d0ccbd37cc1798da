"""Certificates of a TLS cluster, and the settings that use them."""

import subprocess

import pytest


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A certificate and its key, signed by itself, as openssl makes them."""
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=tomostream",
            "-keyout",
            str(folder / "key.pem"),
            "-out",
            str(folder / "cert.pem"),
        ],
        check=True,
        capture_output=True,
    )
    return folder


def tls(folder):
    one = {"cert": str(folder / "cert.pem"), "key": str(folder / "key.pem")}
    return {
        "distributed.comm.require-encryption": True,
        "distributed.comm.tls.ca-file": one["cert"],
        **{f"distributed.comm.tls.{role}.{part}": one[part] for role in ("scheduler", "worker", "client") for part in one},
    }
