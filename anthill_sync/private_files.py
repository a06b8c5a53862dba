"""Files with a secret in them: who else may read or write them."""

from __future__ import annotations

import logging
import os
import shlex
import stat
from pathlib import Path

from .errors import PermissionRefused

log = logging.getLogger(__name__)

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OTHERS_READ = stat.S_IRGRP | stat.S_IROTH


def check_private(fd: int, path: Path, what: str) -> None:
    """Refuse (``PermissionRefused``) the open file when others can write it, or can read it.

    A container or service manager hands out secrets that this user cannot ``chmod``: owned by root, or on a read-only
    mount. Such a file is accepted when others can read it, with a warning. Pipes are as private as who made them.
    """
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode):
        return
    mend = f"chmod 600 {shlex.quote(str(path))}"
    if status.st_mode & _OTHERS_WRITE:
        raise PermissionRefused(f"others can write the {what} {path}: {mend}")
    if not status.st_mode & _OTHERS_READ:
        return
    if status.st_uid != 0 and not os.fstatvfs(fd).f_flag & os.ST_RDONLY:
        raise PermissionRefused(f"others can read the {what} {path}: {mend}, or mount its file system for you alone")
    log.warning("others can read the %s %s; better is a mode of 0400, and this user as its owner", what, path)
