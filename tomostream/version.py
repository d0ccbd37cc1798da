"""The package's version, for whoever records it; `pyproject.toml` reads it from here."""

VERSION = "0.2.0"
