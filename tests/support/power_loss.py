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


class JournalDisk:
    """A disk that loses power as ext4 and XFS do: names are those of some earlier moment, and of files that were not synchronised any content.

    1. What is done to names reaches the disk in order: found is the state after the `names_at`-th call, or after the last `fsync` if that was later
       (it carries all names before it).
    2. A file that was synchronised, and not changed since, is whole.  Any other is what it was at its last `fsync`, what it is, empty, cut off,
       or zeros.
    """

    def __init__(self, root, draw):
        self.root, self._draw = Path(root), draw
        self._durable: dict[int, bytes] = {}
        self._names: dict[str, int] = {}  # relative path -> inode; folders: 0
        self._held: dict[int, int] = {}  # inode -> descriptor
        self._look()
        for inode, descriptor in self._held.items():
            self._durable[inode] = _content(descriptor)

    def _look(self):
        """Take the names as they are now as those on the disk."""
        self._names = {}
        for here, folders, names in os.walk(self.root):
            for name in folders:
                self._names[os.path.relpath(Path(here, name), self.root)] = 0
            for name in names:
                path = Path(here, name)
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode):
                    continue
                self._names[os.path.relpath(path, self.root)] = found.st_ino
                if found.st_ino not in self._held:
                    self._held[found.st_ino] = os.open(path, os.O_RDONLY)

    def keep_names(self):
        """From now on these names may be found."""
        self._look()

    def fsync(self, descriptor):
        """What `os.fsync` does here."""
        found = os.fstat(descriptor)
        if stat.S_ISREG(found.st_mode):
            self._durable[found.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()
        self._look()

    def after_loss(self, target):
        """Build in `target` what is found after a power loss now."""
        Path(target).mkdir()
        for name, inode in sorted(self._names.items()):
            path = Path(target, name)
            if not inode:
                path.mkdir(exist_ok=True)
                continue
            path.write_bytes(self._found(inode))
        return Path(target)

    def _found(self, inode):
        now, synced = _content(self._held[inode]), self._durable.get(inode)
        if now == synced:
            return now
        choices = [now, b"", bytes(len(now)), now[: self._draw.randint(0, len(now))]]
        return self._draw.choice([*choices, synced] if synced is not None else choices)


def _content(descriptor):
    return Path(f"/proc/self/fd/{descriptor}").read_bytes()
