import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.imswire_sip.sip_samples import INVITE_LINES, raw

from imswire.base import ProtocolError
from imswire.sip.headers import Headers, canonical, split_values
from imswire.sip.parser import parse


def sample() -> Headers:
    return Headers([("Via", "a, b"), ("v", "c"), ("To", "x"), ("X-One", "1")])


def test_canonical() -> None:
    assert [canonical(name) for name in ("V", "via", "CALL-ID", "i", "X-Foo")] == [
        "via",
        "via",
        "call-id",
        "call-id",
        "x-foo",
    ]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", []),
        ("a", ["a"]),
        (" a ,b,, c ", ["a", "b", "c"]),
        ('"x, y" <sip:a@b>, <sip:c,d@e>', ['"x, y" <sip:a@b>', "<sip:c,d@e>"]),
        ('"a \\" , b", c', ['"a \\" , b"', "c"]),
    ],
)
def test_split_values(text: str, parts: list[str]) -> None:
    assert split_values(text) == parts


@pytest.mark.parametrize("text", ['"a, b', "<a, b", 'x, "'])
def test_split_values_needs_closed_quotes(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        split_values(text)
    assert caught.value.reason == "sip.quoting"


def test_reading() -> None:
    headers = sample()
    assert headers.get("VIA") == "a, b"
    assert headers.get("none") is None
    assert headers.get("none", "d") == "d"
    assert headers.get_all("via") == ["a, b", "c"]
    assert headers.values("v") == ["a", "b", "c"]
    assert headers.first_value("via") == "a"
    assert "t" in headers
    assert 7 not in headers
    assert list(headers) == [("Via", "a, b"), ("v", "c"), ("To", "x"), ("X-One", "1")]
    assert len(headers) == 4
    assert headers.count("via") == 2


def test_values_of_fields_that_are_no_lists() -> None:
    headers = Headers([("Date", "Sat, 13 Nov 2010 23:29:00 GMT"), ("WWW-Authenticate", 'Digest realm="a", nonce="b"')])
    assert headers.values("date") == ["Sat, 13 Nov 2010 23:29:00 GMT"]
    assert headers.values("www-authenticate") == ['Digest realm="a", nonce="b"']


def test_set_replaces_first_and_drops_others() -> None:
    headers = sample()
    headers.set("Via", "z")
    headers.set("New", "n")
    assert list(headers) == [("Via", "z"), ("To", "x"), ("X-One", "1"), ("New", "n")]


def test_add_and_prepend_keep_lines_of_a_name_together() -> None:
    headers = sample()
    headers.add("Via", "d")
    headers.add("Last", "l")
    headers.prepend("Via", "0")
    headers.prepend("First", "f")
    assert [name for name, _ in headers] == ["First", "Via", "Via", "v", "Via", "To", "X-One", "Last"]
    assert headers.values("via") == ["0", "a", "b", "c", "d"]


def test_remove() -> None:
    headers = sample()
    assert headers.remove("VIA")
    assert not headers.remove("VIA")
    assert list(headers) == [("To", "x"), ("X-One", "1")]


def test_first_values_are_taken_one_by_one() -> None:
    headers = Headers([("Via", "a ,  b"), ("v", "c")])
    assert [headers.remove_first_value("via") for _ in range(4)] == ["a", "b", "c", None]
    assert len(headers) == 0


def test_replace_first_value_keeps_the_rest_of_the_line() -> None:
    headers = Headers([("v", '"x,y" <a>,  b')])
    headers.replace_first_value("via", "new")
    headers.replace_first_value("other", "o")
    assert headers.text == "v: new,  b\r\nother: o"


def test_remove_value() -> None:
    headers = Headers([("Require", "sec-agree"), ("Require", "100rel, Sec-Agree ,path"), ("Supported", "sec-agree")])
    assert headers.remove_value("require", "sec-agree")
    assert not headers.remove_value("require", "sec-agree")
    assert headers.text == "Require: 100rel, path\r\nSupported: sec-agree"


def test_copy_is_independent() -> None:
    headers = sample()
    other = headers.copy()
    other.set("To", "changed")
    assert headers.get("to") == "x"
    assert headers != other
    assert headers == sample()


@pytest.mark.parametrize(
    ("name", "value"), [("A", "x\r\nB: y"), ("A", "x\ny"), ("A b", "x"), ("", "x"), ("A:", "x"), ("A\r\n", "x")]
)
def test_no_line_can_be_smuggled_in(name: str, value: str) -> None:
    headers = Headers()
    for write in (headers.add, headers.set, headers.prepend, headers.replace_first_value):
        with pytest.raises(ProtocolError) as caught:
            write(name, value)
        assert caught.value.reason == "sip.header"
    assert len(headers) == 0


EDITS = st.tuples(
    st.sampled_from(
        ["set", "add", "prepend", "remove", "remove_first_value", "replace_first_value", "remove_value", "copy_from"]
    ),
    st.sampled_from(["Via", "v", "to", "Route", "x-new", "Content-Length", "Subject"]),
    st.sampled_from(["a", "b, c", " 4 ", "SIP/2.0/UDP h"]),
)
READS = ("via", "V", "From", "to", "route", "X-New", "x-none", "content-length", "subject")


def edit(headers: Headers, method: str, name: str, value: str) -> None:
    if method == "copy_from":
        headers.copy_from(Headers([(name, value)]), name)
    elif method in ("remove", "remove_first_value"):
        getattr(headers, method)(name)
    else:
        getattr(headers, method)(name, value)


@given(st.lists(EDITS, max_size=6))
def test_edits_of_a_message_that_was_read(edits: list[tuple[str, str, str]]) -> None:
    """A message that was read knows where its lines stand; it must not once they stand elsewhere."""
    read = parse(raw(*(line for line in INVITE_LINES if not line.startswith("\t")), body=b"v=0\n")).headers
    told = Headers(read)
    given_copy, before = read.copy(), read.text
    for method, name, value in edits:
        for headers in (read, told):
            edit(headers, method, name, value)
        assert list(read) == list(told)
        assert [read.get(name) for name in READS] == [told.get(name) for name in READS]
        assert [name in read for name in READS] == [name in told for name in READS]
        assert [read.first_value(name) for name in READS] == [told.first_value(name) for name in READS]
    assert given_copy.text == before
    assert [given_copy.get(name) for name in ("via", "to", "content-length")] == [
        "SIP/2.0/UDP 198.51.100.7:40000;branch=z9hG4bKabc;rport",
        "<sip:bob@example.org>",
        "4",
    ]


def test_one_line_of_a_name_and_several_are_read_and_removed_alike() -> None:
    for count in range(4):
        values = [f"<sip:h{number}.example;lr>" for number in range(count)]
        headers = Headers(
            [("To", "<sip:b@example.org>"), *(("Route", value) for value in values), ("Max-Forwards", "7")]
        )
        assert headers.get_all("Route") == values
        replaced = headers.copy()
        replaced.set("Route", "<sip:new.example;lr>")
        assert replaced.get_all("route") == ["<sip:new.example;lr>"]
        assert headers.remove("route") is bool(values)
        assert list(headers) == [("To", "<sip:b@example.org>"), ("Max-Forwards", "7")]
