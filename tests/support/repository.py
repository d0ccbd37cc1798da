"""Where this checkout, its tests and what they share are."""

import os
from pathlib import Path

SUPPORT = Path(__file__).parent
TESTS = SUPPORT.parent
REPOSITORY = TESTS.parent
WORKERS_PATH = os.pathsep.join((str(SUPPORT), str(REPOSITORY)))  # where worker processes find the tests' tasks, and this package
