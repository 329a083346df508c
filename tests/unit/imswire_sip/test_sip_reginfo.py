"""Registration information (RFC 3680): what is read, what is bounded, what is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imswire.base import LimitExceeded, ProtocolError
from imswire.sip.reginfo import (
    CONTACT_STATES,
    DEPTH,
    ELEMENTS,
    NAMESPACE,
    OCTETS,
    REGISTRATION_STATES,
    ContactInfo,
    RegInfo,
    RegistrationInfo,
    parse_reginfo,
    write_reginfo,
)

# After the example of RFC 3680 5.3, with an extension element of another namespace.
EXAMPLE = f"""<?xml version="1.0"?>
<reginfo xmlns="{NAMESPACE}" xmlns:gr="urn:x" version="1" state="partial">
  <registration aor="sip:user@example.com" id="as9" state="active">
    <contact id="76" state="active" event="registered" duration-registered="7322" q="0.8" expires="60">
      <uri>sip:user@pc887.example.com</uri>
      <gr:pub-gruu uri="sip:x"/>
    </contact>
    <contact id="77" state="terminated" event="deactivated" retry-after="5"><uri> sip:user&amp;x@university.edu </uri>
      <display-name xml:lang="en">Somebody &lt;here&gt;</display-name></contact>
  </registration>
  <gr:registration aor="sip:not@ours" state="none"/>
</reginfo>""".encode()


def test_the_document_of_the_rfc() -> None:
    assert parse_reginfo(EXAMPLE) == RegInfo(
        1,
        False,
        (
            RegistrationInfo(
                "sip:user@example.com",
                "as9",
                "active",
                (
                    ContactInfo("sip:user@pc887.example.com", "active", "registered", "76", 60),
                    ContactInfo("sip:user&x@university.edu", "terminated", "deactivated", "77", None, 5),
                ),
            ),
        ),
    )


BOMB = "".join(
    (
        '<?xml version="1.0"?><!DOCTYPE reginfo [<!ENTITY a0 "ha">',
        *(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)),
        f']><reginfo xmlns="{NAMESPACE}" version="0" state="full">&a11;</reginfo>',
    )
).encode()


@pytest.mark.parametrize(
    "document",
    [
        BOMB,
        b'<!DOCTYPE r SYSTEM "file:///etc/passwd"><reginfo/>',
        b'<!DOCTYPE r [<!ENTITY x SYSTEM "http://127.0.0.1/">]><r>&x;</r>',
        b"",
        b"rubbish",
        EXAMPLE[:-1],
        EXAMPLE + EXAMPLE,
        EXAMPLE.replace(NAMESPACE.encode(), b"urn:other"),
        EXAMPLE.replace(b'version="1" state', b'version="one" state'),
        EXAMPLE.replace(b'"partial"', b'"some"'),
        EXAMPLE.replace(b'state="terminated"', b'state="gone"'),
        EXAMPLE.replace(b'id="as9" state="active"', b'id="as9"'),
        EXAMPLE.replace(b'aor="sip:user@example.com"', b""),
        EXAMPLE.replace(b'expires="60"', b'expires="-60"'),
        EXAMPLE.replace(b"Somebody", b"&nobody;"),
        EXAMPLE.replace(b"Somebody", b"\xff\xfe"),
    ],
)
def test_what_is_no_such_document_is_refused(document: bytes) -> None:
    with pytest.raises(ProtocolError, match="reginfo"):
        parse_reginfo(document)


@pytest.mark.parametrize(
    "document",
    [
        b" " * (OCTETS + 1),
        b"<a>" * (DEPTH + 1),
        f'<reginfo xmlns="{NAMESPACE}" version="0" state="full">{"<a/>" * ELEMENTS}</reginfo>'.encode(),
    ],
)
def test_size_is_bounded(document: bytes) -> None:
    with pytest.raises(LimitExceeded):
        parse_reginfo(document)


texts = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20)
numbers = st.none() | st.integers(0, 2**32 - 1)
words = texts.map(str.strip)
contacts = st.builds(ContactInfo, words, st.sampled_from(sorted(CONTACT_STATES)), texts, texts, numbers, numbers)
registrations = st.builds(
    RegistrationInfo,
    texts,
    texts,
    st.sampled_from(sorted(REGISTRATION_STATES)),
    st.lists(contacts, max_size=3).map(tuple),
)


@given(st.builds(RegInfo, st.integers(0, 2**31 - 1), st.booleans(), st.lists(registrations, max_size=3).map(tuple)))
def test_what_is_written_is_read_again(info: RegInfo) -> None:
    assert parse_reginfo(write_reginfo(info)) == info


@given(st.binary(max_size=200), st.integers(0, len(EXAMPLE)), st.integers(0, len(EXAMPLE)))
def test_anything_is_read_or_refused(noise: bytes, start: int, end: int) -> None:
    for document in (noise, EXAMPLE[:start] + noise + EXAMPLE[end:]):
        with contextlib.suppress(ProtocolError):
            parse_reginfo(document)
