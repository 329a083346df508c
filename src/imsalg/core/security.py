"""The media plane security agreement at registration (RFC 3329 as extended by TS 24.229 7.2A.7 and 5.2.2).

A UE announces in ``Security-Client`` which media plane mechanisms it supports; the P-CSCF answers with its own list in
``Security-Server``; what both name is agreed and is stored by value in the binding. ``Security-Verify`` repeats the
P-CSCF's list. Media plane mechanisms are independent of the signalling mechanism: several may be agreed at once, and a
wrong repetition of them is logged, never refused.

The functions here take and give values or edit :class:`Headers` in place; they know no registration and no transaction.
"""

from collections.abc import Iterable

from msgspec import Struct

from imswire.base import ProtocolError
from imswire.sip.headers import Headers
from imswire.sip.values import SecMechanism, parse_sec_mechanisms

MEDIA_MECHANISMS: dict[str, str] = {
    "msrp-tls": "MSRP",
    "bfcp-tls": "BFCP",
    "sdes-srtp": "RTP",
    "udptl-dtls": "UDPTL",
}
"""Mechanism name -> the media it protects between the UE and the access edge (TS 24.229 table 7.2A.7.2-2)."""

IMPLEMENTED: frozenset[str] = frozenset({"msrp-tls", "bfcp-tls"})
"""What this IMS-ALG really does today; settings that name more are an error, so that nothing is promised in vain."""

MEDIASEC = "mediasec"
SEC_AGREE = "sec-agree"
HEADERS_OF_AGREEMENT: tuple[str, ...] = ("Security-Client", "Security-Verify", "Security-Server")
"""They are between the UE and the P-CSCF alone (RFC 3329 2.6): never forwarded."""
OPTION_TAG_HEADERS: tuple[str, ...] = ("Require", "Proxy-Require")


class VerifyOutcome(Struct, frozen=True):
    """What ``Security-Verify`` said about the media plane list.

    ``present`` is False when the header (or any media entry) is absent; ``missing`` are ours that it lacks, ``foreign``
    those it holds that we never sent. ``signalling`` are the other mechanisms, for whoever negotiates those.
    """

    present: bool
    missing: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    signalling: tuple[SecMechanism, ...] = ()

    @property
    def clean(self) -> bool:
        """True when the media entries repeat exactly what the P-CSCF sent."""
        return self.present and not self.missing and not self.foreign


def media_name(mechanism: SecMechanism) -> str | None:
    """The known or unknown media plane mechanism that this entry names, or None for a signalling mechanism.

    The published form is ``msrp-tls;mediasec``. ``<anything>;mediasec=msrp-tls``, which contributions to TR 29.828
    show, is read as the same thing.
    """
    value = mechanism.param(MEDIASEC)
    if value is None:
        return None
    return value.strip().lower() or mechanism.name.lower()


def media_mechanisms(mechanisms: Iterable[SecMechanism]) -> frozenset[str]:
    """The media plane mechanisms known here (keys of :data:`MEDIA_MECHANISMS`) among all that a list names."""
    return frozenset(name for m in mechanisms if (name := media_name(m)) is not None and name in MEDIA_MECHANISMS)


def announced(headers: Headers, name: str = "Security-Client") -> frozenset[str]:
    """The media plane mechanisms in the header lines ``name``, in any order, comma lists and repeated lines alike.

    Raises :class:`ProtocolError` when a line cannot be read; a UE that announces nothing gives the empty set.
    """
    return media_mechanisms(parse_sec_mechanisms(headers.get_all(name)))


def announced_or_none(headers: Headers, name: str = "Security-Client") -> frozenset[str] | None:
    """Like :func:`announced`, but None for an unreadable header: for callers that register the UE without agreement."""
    try:
        return announced(headers, name)
    except ProtocolError:
        return None


def server_values(supported: Iterable[str]) -> tuple[str, ...]:
    """The values of our ``Security-Server``: ``msrp-tls;mediasec`` and so on, in the order of the table."""
    wanted = frozenset(supported)
    return tuple(f"{name};{MEDIASEC}" for name in MEDIA_MECHANISMS if name in wanted and name in IMPLEMENTED)


def add_security_server(headers: Headers, supported: Iterable[str]) -> bool:
    """Append one ``Security-Server`` line with our media list to a response (401, or 200 when no 401 was needed).

    Other ``Security-Server`` lines, of a signalling mechanism, stay. Returns False when we support nothing.
    """
    values = server_values(supported)
    if values:
        headers.add("Security-Server", ", ".join(values))
    return bool(values)


def agreed(client: Iterable[str], supported: Iterable[str]) -> frozenset[str]:
    """What both sides announced: the mechanisms that may be applied when a stream is set up."""
    return frozenset(client) & frozenset(supported) & IMPLEMENTED


def check_verify(headers: Headers, supported: Iterable[str]) -> VerifyOutcome:
    """Compare the media entries of ``Security-Verify`` with what we sent.

    The caller logs an outcome that is not clean and goes on: TS 24.229 demands equality of the signalling mechanisms
    only. Raises :class:`ProtocolError` when the header cannot be read.
    """
    mechanisms = parse_sec_mechanisms(headers.get_all("Security-Verify"))
    named = frozenset(name for m in mechanisms if (name := media_name(m)) is not None)
    ours = frozenset(value.partition(";")[0] for value in server_values(supported))
    signalling = tuple(m for m in mechanisms if media_name(m) is None)
    return VerifyOutcome(bool(named), ours - named, named - ours, signalling)


def has_option_tag(headers: Headers, name: str, tag: str) -> bool:
    """True when one of the comma values of header ``name`` is the option tag ``tag``."""
    return any(value.strip().lower() == tag for value in headers.values(name))


def strip_option_tag(headers: Headers, name: str, tag: str) -> bool:
    """Take option tag ``tag`` out of header ``name``; the header disappears when nothing is left. True if it was there.

    Lines that do not hold the tag keep their bytes.
    """
    return headers.remove_value(name, tag)


def strip_agreement(headers: Headers) -> None:
    """Make a request fit to leave for the core: no ``Security-*``, no ``sec-agree`` or ``mediasec`` option tag.

    RFC 3329 2.6 and TS 24.229 5.2.2: the agreement is between the UE and its first hop. ``Supported`` is left alone.
    """
    for name in HEADERS_OF_AGREEMENT:
        headers.remove(name)
    for name in OPTION_TAG_HEADERS:
        for tag in (SEC_AGREE, MEDIASEC):
            strip_option_tag(headers, name, tag)
