"""Text encoding of H.248 to values: the form that this project writes by a short way, any other by the grammar."""

from imswire.h248 import grammar, quick
from imswire.h248.lexer import MAX_MESSAGE
from imswire.h248.model import Message


def parse(data: bytes, limit: int = MAX_MESSAGE) -> Message:
    """Read one message of at most ``limit`` bytes.

    Raises :class:`H248Error` with the code of RFC 3525 8.2.2 and what :func:`~imswire.h248.errors.error_answer` needs,
    or :class:`imswire.base.LimitExceeded`.
    """
    if len(data) <= limit and (message := quick.read(data)) is not None:
        return message
    return grammar.parse(data, limit)
