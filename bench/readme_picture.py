"""Make the README's picture from a finished demo: python bench/readme_picture.py tomostream-demo docs/demo.png."""

import sys
from pathlib import Path

from tomostream.config import load_configuration
from tomostream.pipeline.report_page import find_results, view_slice
from tomostream.project import Project
from tomostream.report.pictures import slice_picture


def main(folder: str, output: str) -> None:
    """Draw the third tomogram, which has no clicks."""
    project = Project(Path(folder))
    configuration = load_configuration(project.resolved)
    found = next(f for f in find_results(configuration, project) if f.tomogram.name == "demo_3")
    species = configuration.species[0]
    view = view_slice(found, species.name, species.radius.in_voxels(found.tomogram.spacing), configuration, project)
    Path(output).write_bytes(slice_picture(view))


if __name__ == "__main__":
    main(*sys.argv[1:])
