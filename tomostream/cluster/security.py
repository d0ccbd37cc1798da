"""TLS settings for Dask connections; warn where a connection is not encrypted.

A Dask scheduler runs whatever code a client sends it.  On loopback only this machine's users reach it; on a cluster's network anyone
on that network, unless TLS asks for a certificate of the right authority.  Dask's own configuration says which certificates
(`distributed.comm.tls.*`, or the environment: `DASK_DISTRIBUTED__COMM__TLS__CA_FILE`, ...).
"""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Any

from tomostream.errors import InputError
from tomostream.progress import Progress

_ROLES = ("scheduler", "worker", "client")


def configured() -> Any:
    """Dask's security settings if they hold certificates, else None.

    Raises
    ------
    InputError
        If they are incomplete or name missing files, or encryption is required without them.
    """
    from distributed.security import Security  # noqa: PLC0415  (distributed takes 0.5 s to import; most commands don't need it)

    security = Security()
    keys = ["tls_ca_file", *(f"tls_{role}_{part}" for role in _ROLES for part in ("cert", "key"))]
    found = {key: getattr(security, key) for key in keys}
    if not any(found.values()):
        if security.require_encryption:
            raise InputError(
                "Dask's configuration requires encryption (distributed.comm.require-encryption) but names no certificates; "
                "set distributed.comm.tls.ca-file and cert and key of scheduler, worker and client"
            )
        return None
    for key, value in found.items():
        name = key.removeprefix("tls_").replace("_", ".", 1) if key != "tls_ca_file" else "ca-file"
        if key.endswith("_key") and value is None:
            continue  # a certificate's file may hold its key
        if value is None:
            raise InputError(f"Dask's TLS settings are incomplete: distributed.comm.tls.{name} is missing")
        if "\n" not in value and not Path(value).is_file():
            raise InputError(f"Dask's TLS settings name a missing file: distributed.comm.tls.{name} is {value}")
    return security


def warn_if_open(address: str, progress: Progress) -> None:
    """Warn if others on the network could read what goes to this address, or send it code."""
    if address.startswith("tcp://") and not is_loopback(address):
        progress.warn(
            f"the connection to the scheduler at {address} is not encrypted: anyone who can reach it can run code as you; "
            "give Dask TLS certificates (distributed.comm.tls.*, see docs/cluster.md), or use only a network that you trust"
        )


def is_loopback(address: str) -> bool:
    """Return whether an address such as tcp://127.0.0.1:8786 can be reached from this machine only."""
    host = address.split("://", 1)[-1].rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
