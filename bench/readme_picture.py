"""Make the README's picture from a finished demo: python bench/readme_picture.py tomostream-demo docs/demo.png."""

import sys
from pathlib import Path

from tomostream.config import load_configuration
from tomostream.pipeline.report_page import find_results, view_slice
from tomostream.project import Project
from tomostream.report.pictures import slice_picture
from tomostream.stages.shared.resolved_run import resolve


def main(folder: str, output: str) -> None:
    """Draw the third tomogram, which has no clicks."""
    run = resolve(load_configuration(Project(Path(folder)).resolved), with_clicks=False)
    found = next(f for f in find_results(run) if f.tomogram.name == "demo_3")
    Path(output).write_bytes(slice_picture(view_slice(found, run.species[0], run)))


if __name__ == "__main__":
    main(*sys.argv[1:])
