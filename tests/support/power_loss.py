"""A disk that forgets, at a power loss, all that was not synchronised: the worst that a file system may do.

While `watched` runs, each `fsync` of a file keeps its content, each `fsync` of a folder its entries.  `after_loss` builds what would be found
after a power loss at that moment: of each folder the entries of its last fsync, of each file the content of its last fsync, else none.
"""

import contextlib
import os
import stat
from pathlib import Path
from unittest.mock import patch


class ForgetfulDisk:
    def __init__(self, root):
        self.root = Path(root)
        self._files: dict[int, bytes] = {}
        self._folders: dict[int, dict[str, tuple[int, bool]]] = {}
        self._kept_open = []  # an inode number must not be used twice
        self.loss_at = None  # the number of the fsync before which power is lost
        self.count = 0
        self.keep_folder(self.root)

    def keep_folder(self, path):
        """Take all that is there now as on the disk."""
        for here, _, names in os.walk(path):
            self._keep_entries(here)
            for name in names:
                file = Path(here, name)
                self._files[file.stat().st_ino] = file.read_bytes()

    def _keep_entries(self, folder):
        with os.scandir(folder) as entries:
            self._folders[os.stat(folder).st_ino] = {e.name: (e.inode(), e.is_dir(follow_symlinks=False)) for e in entries}

    def _fsync(self, descriptor):
        if self.loss_at == self.count:
            raise PowerLoss
        self.count += 1
        self._kept_open.append(os.dup(descriptor))
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            self._keep_entries(f"/proc/self/fd/{descriptor}")
        else:
            self._files[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    @contextlib.contextmanager
    def watched(self):
        with patch.object(os, "fsync", self._fsync):
            yield

    def after_loss(self, target):
        """Build in `target` what is left."""
        self._build(self.root.stat().st_ino, Path(target))
        return Path(target)

    def _build(self, inode, target):
        target.mkdir()
        for name, (child, is_folder) in self._folders.get(inode, {}).items():
            if is_folder:
                self._build(child, target / name)
            else:
                (target / name).write_bytes(self._files.get(child, b""))

    def close(self):
        for descriptor in self._kept_open:
            os.close(descriptor)


class PowerLoss(BaseException):
    """The machine stops here."""
