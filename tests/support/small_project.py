"""The small project of `tomostream.testing`, and what a folder holds."""

from pathlib import Path

from tomostream.testing.small_project import RADIUS_VOX, SHAPE, SPACING, make_project, make_volume

__all__ = ["RADIUS_VOX", "SHAPE", "SPACING", "make_project", "make_volume", "tree_bytes"]


def tree_bytes(folder: Path, *, ignore: tuple[str, ...] = ("log.jsonl", "checkpoint.pt", ".html", ".lock")) -> dict[str, bytes]:
    """All files below a folder but logs, by relative path."""
    return {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.name.endswith(ignore) and "made-by" not in p.name
    }
