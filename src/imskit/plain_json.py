"""JSON of what peers wrote: text whose octets are not UTF-8 is shown, not refused."""

from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder(enc_hook=str)


def to_json(value: Any) -> bytes:
    """``value`` as JSON; what JSON does not know, as text. Octets that are no UTF-8 are written as ``\\xff``.

    Such octets are surrogates in our strings ("surrogateescape"), which no JSON may hold.
    """
    try:
        return _ENCODER.encode(value)
    except UnicodeEncodeError:
        return _ENCODER.encode(_shown(msgspec.to_builtins(value, str_keys=True, enc_hook=str)))


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no octet
            return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, (list, tuple)):
        return [_shown(one) for one in value]
    if isinstance(value, dict):
        return {_shown(key): _shown(one) for key, one in value.items()}
    return value
