"""Files of TLS secrets (SSLKEYLOGFILE format), for debugging: with them a capture of a session can be read.

A line is appended in one piece, so that several workers may share a file; it is opened for each line, of which there
are a handful for each session, so that nothing is left open and files may be moved away.
"""

import errno
import os
import stat

from imskit.logs import get_logger

log = get_logger("agw.keylog")

_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def check_key_log(path: str) -> None:
    """Make the file, readable by its owner only, and warn. Raises OSError where that is not possible, and for a file
    that exists and is somebody else's, readable by others or no plain file."""
    os.close(_open(path))
    log.warning("TLS secrets of some sessions are being logged: whoever reads them reads the media", file=path)


def write_secret(path: str, line: bytes) -> None:
    """One line, without its end; a file that cannot be written is logged."""
    try:
        descriptor = _open(path)
        try:
            os.write(descriptor, line + b"\n")
        finally:
            os.close(descriptor)
    except OSError as error:
        log.error("the key log cannot be written", file=path, error=error.strerror)


def _open(path: str) -> int:
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        found = os.fstat(descriptor)
        reason = ""
        if not stat.S_ISREG(found.st_mode):
            reason = "expected a plain file"
        elif found.st_uid != os.geteuid():
            reason = f"the file belongs to user {found.st_uid}, expected {os.geteuid()}"
        elif found.st_mode & 0o077:
            reason = f"others may use the file (mode {stat.S_IMODE(found.st_mode):04o}), expected 0600"
        if reason:
            raise PermissionError(errno.EACCES, reason, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
