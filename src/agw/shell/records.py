"""Reads decrypted bytes from a TLS connection straight into the worker's buffer.

pyOpenSSL's ``recv_into`` allocates a block for every record and copies out of it, which costs a quarter of the CPU time
of a whole relay. Where this pyOpenSSL lets us reach its OpenSSL binding, SSL_read writes into our buffer itself; where
it does not, ``recv_into`` does the same work more slowly. Errors are made by pyOpenSSL in both cases, and are given
back without their traceback: its frames hold whoever called, who holds the error, and such a circle waits for the
garbage collector with all the memory of its TLS connection.
"""

from collections.abc import Callable
from typing import Any

from OpenSSL import SSL

RECORD = 16_384
"""Plaintext octets of the largest TLS record (RFC 8446 5.1)."""

WOULD_BLOCK = SSL.WantReadError()
"""What ends the reading of a connection that has nothing more at the moment: the usual end, and thus made once."""

_RECORDS_PER_CALL = 32
"""A peer that sends tiny records gets no more than these at a time."""

type Reader = Callable[[SSL.Connection, memoryview, int], tuple[int, int, SSL.Error | None]]
"""(connection, buffer, limit) -> (octets read, octets still decrypted and not read, what ended the reading or None)."""


def slow_reader() -> Reader:
    """The reader on pyOpenSSL's public interface."""

    def read(tls: SSL.Connection, view: memoryview, limit: int) -> tuple[int, int, SSL.Error | None]:
        count = 0
        try:
            for _ in range(_RECORDS_PER_CALL):
                count += tls.recv_into(view[count:], RECORD)
                if count > limit:
                    break
        except SSL.WantReadError:
            return count, 0, WOULD_BLOCK
        except SSL.Error as error:
            return count, 0, error.with_traceback(None)
        return count, tls.pending(), None

    return read


def fast_reader(view: memoryview) -> Reader | None:
    """The reader on the binding under pyOpenSSL, for this one buffer; None where the binding cannot be reached."""
    library: Any = getattr(SSL, "_lib", None)
    foreign: Any = getattr(SSL, "_ffi", None)
    raise_error: Any = getattr(SSL.Connection, "_raise_ssl_error", None)
    names = ("SSL_read", "SSL_pending", "SSL_get_error", "SSL_ERROR_WANT_READ")
    if None in (library, foreign, raise_error, *(getattr(library, name, None) for name in names)):
        return None
    ssl_read, ssl_pending, ssl_error = library.SSL_read, library.SSL_pending, library.SSL_get_error
    want_read = library.SSL_ERROR_WANT_READ
    memory = foreign.from_buffer(view)
    base = foreign.cast("char *", memory)

    def read(tls: Any, _view: memoryview, limit: int, memory: Any = memory) -> tuple[int, int, SSL.Error | None]:
        ssl, count = tls._ssl, 0
        for _ in range(_RECORDS_PER_CALL):
            got = ssl_read(ssl, base + count, RECORD)
            if got <= 0:
                if ssl_error(ssl, got) == want_read:
                    return count, 0, WOULD_BLOCK
                try:
                    raise_error(tls, ssl, got)
                except SSL.Error as error:
                    return count, 0, error.with_traceback(None)
                break
            count += got
            if count > limit:
                break
        return count, ssl_pending(ssl), None

    return read


def reader_for(view: memoryview) -> Reader:
    """The fastest reader that this pyOpenSSL allows for ``view``."""
    return fast_reader(view) or slow_reader()
