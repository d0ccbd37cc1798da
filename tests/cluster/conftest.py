"""Fixtures of a Dask scheduler and of TLS certificates."""

from cluster_support import scheduler
from cluster_tls import certificates

__all__ = ["certificates", "scheduler"]
