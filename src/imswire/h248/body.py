"""The SDP bodies of Local and Remote descriptors (RFC 3525 7.1.8 and Annex C): the few lines the Iq profile uses.

Not a general SDP parser: a body here is one session part with one m-line, in which ``$`` may stand where the
MG chooses.
"""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

from imswire.h248.errors import H248Error
from imswire.h248.model import CHOOSE

Fingerprint = tuple[str, bytes]
"""Lower-case hash name (``sha-256``) and the digest's octets."""

MAX_LINES = 64
MAX_PATH = 1_024
"""Octets of a path; RFC 4975 sets no bound."""
SETUPS = ("active", "passive", "actpass", "holdconn")
DIGEST_SIZES = {"sha-1": 20, "sha-224": 28, "sha-256": 32, "sha-384": 48, "sha-512": 64, "md5": 16, "md2": 16}


class Body(Struct, frozen=True):
    """One media description.

    ``address`` and ``port`` are None where ``$`` stands; ``fingerprint_wanted`` is the hash of
    ``a=fingerprint:<hash> $``. ``path`` is one MSRP URI (RFC 4975 6), with ``$`` for what the MG chooses.
    """

    media: str
    proto: str
    formats: str
    family: str
    address: str | None
    port: int | None
    setup: str | None = None
    fingerprints: tuple[Fingerprint, ...] = ()
    fingerprint_wanted: str | None = None
    path: str | None = None


def fingerprint_text(fingerprint: Fingerprint) -> str:
    """``SHA-256 AB:CD:...`` (RFC 8122 5: upper-case hexadecimal)."""
    return f"{fingerprint[0].upper()} {fingerprint[1].hex(':').upper()}"


def read_fingerprint(text: str) -> Fingerprint:
    """Read ``SHA-256 AB:CD:...``; raises :class:`H248Error` 449.

    An unknown hash passes if its octets are hexadecimal.
    """
    name, _, digits = text.strip().partition(" ")
    name = name.lower()
    digits = digits.strip()
    try:
        octets = bytes.fromhex(digits.replace(":", ""))
    except ValueError:
        octets = b""
    if not name or not octets or digits.lower() != octets.hex(":"):
        raise H248Error(449, f"fingerprint cannot be {text[:100]}")
    if len(octets) != DIGEST_SIZES.get(name, len(octets)):
        raise H248Error(449, f"fingerprint of {name} has {len(octets)} octets")
    return name, octets


def read_path(text: str) -> str:
    """One MSRP URI; raises :class:`H248Error` 449 for anything else, also for several (RFC 4975 6)."""
    path = text.strip()
    good = path.lower().startswith(("msrp://", "msrps://")) and len(path) <= MAX_PATH
    if not good or not path.isascii() or not path.isprintable() or " " in path:
        raise H248Error(449, f"path cannot be {text[:100]}")
    return path


def place_text(family: str, address: str, media: str, port: int | str, proto: str, formats: str) -> str:
    """The lines that every body has: where an end is, and what it speaks."""
    return f"v=0\r\nc=IN {family} {address}\r\nm={media} {port} {proto} {formats}"


def write_body(body: Body) -> str:
    """The SDP text of a body, lines joined by CRLF, none after the last."""
    address = CHOOSE if body.address is None else body.address
    port = CHOOSE if body.port is None else body.port
    lines = [place_text(body.family, address, body.media, port, body.proto, body.formats)]
    if body.setup is not None:
        lines.append(f"a=setup:{body.setup}")
    lines += [f"a=fingerprint:{fingerprint_text(fingerprint)}" for fingerprint in body.fingerprints]
    if body.fingerprint_wanted is not None:
        lines.append(f"a=fingerprint:{body.fingerprint_wanted.upper()} {CHOOSE}")
    if body.path is not None:
        lines.append(f"a=path:{read_path(body.path)}")
    return "\r\n".join(lines)


def read_body(text: str) -> Body:
    """Read a body. Lines that the profile does not use are passed over.

    Raises :class:`H248Error` 442 for what is no SDP or lacks a c= or m= line, 449 for values that are not supported.
    """
    # What says where an end is differs from call to call; what the MG is to choose is always the same.
    if CHOOSE in text:
        return _template(text) if len(text) <= 512 else _read(text)
    return read_usual(text) or _read(text)


_USUAL: Final = re.compile(
    r"v=0\r\nc=IN (IP[46]) ([!-#%-~]++)\r\nm=([!-~]++) ([0-9]{1,5}) ([!-~]++) ([!-~]++)"
    r"(?:\r\na=setup:(active|passive|actpass|holdconn))?(?:\r\na=fingerprint:([!-#%-~ ]{1,256}))?"
)


def read_usual(text: str) -> Body | None:
    """A body that names an end, as :func:`write_body` makes it with at most one fingerprint; None for any other."""
    found = _USUAL.fullmatch(text)
    if found is None:
        return None
    family, address, media, port, proto, formats, setup, fingerprint = found.groups()
    number = int(port)
    if number > 65_535:
        return None
    fingerprints = () if fingerprint is None else (_fingerprint(fingerprint),)
    return Body(media, proto, formats, family, address, number, setup, fingerprints)


_fingerprint = lru_cache(maxsize=256)(read_fingerprint)
"""Those of the gateways, and of the UEs that called last."""


def _read(text: str) -> Body:
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if len(lines) > MAX_LINES:
        raise H248Error(442, f"SDP of {len(lines)} lines")
    connection: list[str] = []
    media: list[str] = []
    setup: str | None = None
    fingerprints: list[Fingerprint] = []
    wanted: str | None = None
    path: str | None = None
    for line in lines:
        kind, equal, value = line[:1], line[1:2], line[2:].strip()
        if equal != "=":
            if not line.strip():
                continue
            raise H248Error(442, f"SDP line {line[:40]}")
        if kind == "c":
            connection = value.split()
        elif kind == "m":
            if media:
                raise H248Error(442, "SDP with several m-lines in one stream")
            media = value.split()
        elif kind == "a" and value.startswith("setup:"):
            setup = value[6:].strip().lower()
            if setup not in SETUPS:
                raise H248Error(449, f"setup cannot be {setup[:40]}")
        elif kind == "a" and value.startswith("fingerprint:"):
            name, _, rest = value[12:].strip().partition(" ")
            if rest.strip() == CHOOSE:
                wanted = name.lower()
            else:
                fingerprints.append(read_fingerprint(value[12:]))
        elif kind == "a" and value.startswith("path:"):
            path = value[5:]
    family, address = _connection(connection)
    if len(media) < 4:
        raise H248Error(442, "SDP without a whole m-line")
    return Body(
        media=media[0],
        proto=media[2],
        formats=" ".join(media[3:]),
        family=family,
        address=address,
        port=_port(media[1]),
        setup=setup,
        fingerprints=tuple(fingerprints),
        fingerprint_wanted=wanted,
        path=None if path is None else read_path(path),
    )


_template = lru_cache(maxsize=256)(_read)


def _connection(parts: list[str]) -> tuple[str, str | None]:
    if len(parts) != 3 or parts[0] != "IN":
        raise H248Error(442, "SDP without a whole c-line")
    if parts[1] not in ("IP4", "IP6"):
        raise H248Error(449, f"address type cannot be {parts[1][:40]}")
    return parts[1], None if parts[2] == CHOOSE else parts[2]


def _port(text: str) -> int | None:
    if text == CHOOSE:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 5) or int(text) > 65_535:
        raise H248Error(449, f"port cannot be {text[:40]}")
    return int(text)
