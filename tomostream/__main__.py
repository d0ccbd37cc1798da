"""`python -m tomostream` is the command line, also beside torchrun's other processes (`torchrun -m tomostream train CONFIG`)."""

import os
import sys
from typing import NoReturn

from tomostream.cli.main import main


def _end_at_once(code: object) -> NoReturn:
    """End without torch's own farewell: once in thirty times its threads abort there when a peer has ended, though all is written."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


try:
    main()
except SystemExit as end:
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _end_at_once(end.code)
    raise
