"""Tortured SIP: the cases of RFC 4475 and RFC 5118 in messages of our own, and more that a hostile peer may send."""

import pytest

from imswire.base import ProtocolError
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, Limits, parse
from imswire.sip.uri import SipUri

START = "INVITE sip:bob@example.org SIP/2.0"
HEADERS = (
    "Via: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx",
    "From: <sip:alice@example.org>;tag=1",
    "To: <sip:bob@example.org>",
    "Call-ID: c1",
    "CSeq: 1 INVITE",
)


def build(
    *more: str, start: str = START, body: bytes = b"", without: str = "", headers: tuple[str, ...] = HEADERS
) -> bytes:
    kept = [line for line in headers if not without or not line.startswith(without)]
    return "\r\n".join([start, *kept, *more]).encode("utf-8", "surrogateescape") + b"\r\n\r\n" + body


def replaced(line: str, **options: str) -> bytes:
    """The plain message with the header of that name exchanged."""
    name = line.partition(":")[0]
    return build(line, without=f"{name.strip()}:", **options)  # type: ignore[arg-type]


def refused(data: bytes, limits: Limits | None = None) -> BadMessage:
    with pytest.raises(BadMessage) as caught:
        parse(data, limits or Limits())
    return caught.value


# --- good, however odd ---


def test_a_short_tortuous_invite() -> None:
    data = build(
        "TO :\r\n sip:vivekg@chair-dnrc.example ;   tag    = 1918181833n",
        'from   : "J Rosenberg \\\\\\""       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8',
        "MaX-fOrWaRdS: 0068",
        "Call-ID: wsinv.ndaksdj@192.0.2.1",
        "cseq: 0009\r\n  INVITE",
        "Via  : SIP  /   2.0\r\n /UDP\r\n    192.0.2.2;rport;branch=390skdjuw",
        "s :",
        "NewFangledHeader:   newfangled value\r\n continued newfangled value",
        "UnknownHeaderWithUnusualValue: ;;,,;;,;",
        "Content-Type: application/sdp",
        "Route:\r\n <sip:services.example.com;lr;unknownwith=value;unknown-no-value>",
        "v:  SIP  / 2.0  / TCP     spindle.example.com   ;\r\n  branch  =   z9hG4bK9ikj8  ,\r\n"
        " SIP  /    2.0   / UDP  192.168.255.111   ;"
        " branch=\r\n z9hG4bK30239",
        'm:"Quoted string \\"\\"" <sip:jdrosen@example.com> ; newparam =\r\n'
        "      newvalue ;\r\n  secondparam ; q = 0.33",
        "l: 3",
        headers=(),
        start="INVITE sip:vivekg@chair-dnrc.example;unknownparam SIP/2.0",
        body=b"v=0",
    )
    message = parse(data)
    assert message.to_bytes() == data
    assert message.from_.display_name == 'J Rosenberg \\"'
    assert (message.from_tag, message.to_tag) == ("98asjd8", "1918181833n")
    assert (message.max_forwards, message.cseq.number) == (68, 9)
    assert len(message.headers.values("via")) == 3
    assert message.headers.get("subject") == ""
    assert message.headers.get("newfangledheader") == "newfangled value continued newfangled value"
    assert message.contacts[0].param("newparam") == "newvalue"
    assert message.contacts[0].param("secondparam") == ""
    assert message.headers.values("unknownheaderwithunusualvalue") == [";;", ";;", ";"]


def test_wide_range_of_token_characters() -> None:
    uri = "sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com"
    method = "!interesting-Method0123456789_*+`.%indeed'~"
    data = build(
        "extensionHeader-!.%*+_`'~:\ufeff大停電",
        f"CSeq: 139122385 {method}",
        "Content-Length: 0",
        start=f"{method} {uri} SIP/2.0",
        without="CSeq",
    )
    message = parse(data)
    assert isinstance(message, Request)
    assert message.method == method
    assert SipUri.parse(message.uri).host == "example.com"
    assert message.to_bytes() == data
    assert message.headers.get("extensionheader-!.%*+_`'~") == "\ufeff大停電"


@pytest.mark.parametrize(
    ("uri", "user"),
    [
        ("sip:sips%3Auser%40example.com@example.net", "sips%3Auser%40example.com"),
        ("sip:null-%00-null@example.com", "null-%00-null"),
        ("sip:user;par=u%40example.net@example.com", "user;par=u%40example.net"),
    ],
)
def test_escapes_in_uris(uri: str, user: str) -> None:
    message = parse(build(start=f"INVITE {uri} SIP/2.0"))
    assert isinstance(message, Request)
    assert message.uri == uri
    assert SipUri.parse(uri).user == user


def test_percent_in_a_method_is_no_escape() -> None:
    message = parse(build("CSeq: 1 RE%47IST%45R", start="RE%47IST%45R sip:example.com SIP/2.0", without="CSeq"))
    assert isinstance(message, Request)
    assert message.method == "RE%47IST%45R"


def test_no_space_before_the_bracket() -> None:
    message = parse(replaced("From: caller<sip:caller@example.com>;tag=323"))
    assert (message.from_.display_name, message.from_tag) == ("caller", "323")


def test_long_values() -> None:
    data = build(
        f"Call-ID: {'longreq.' * 100}",
        f"Contact: <sip:{'amazinglylongcallername' * 10}@example.net>",
        *(f"Via: SIP/2.0/TCP sip{n}.example.com;branch=z9hG4bK{n}" for n in range(34)),
        f"Unknown-{'Long' * 50}-Name: x",
        "Content-Length: 0",
        without="Call-ID",
    )
    message = parse(data)
    assert message.to_bytes() == data
    assert len(message.headers.values("via")) == 35


def test_trailing_octets_of_a_datagram_are_cut() -> None:
    message = parse(build("Content-Length: 3", body=b"abcINVITE sip:x SIP/2.0"))
    assert message.body == b"abc"


def test_no_content_length_takes_the_rest_of_the_datagram() -> None:
    assert parse(build(body=b"abc")).body == b"abc"


def test_line_ends_before_the_start_line() -> None:
    assert isinstance(parse(b"\r\n\r\n" + build()), Request)


@pytest.mark.parametrize("transport", ["UDP", "TLS", "SCTP", "UNKNOWN"])
def test_any_transport_in_via(transport: str) -> None:
    assert parse(replaced(f"Via: SIP/2.0/{transport} t1.example.com;branch=z9hG4bKx")).via.transport == transport


@pytest.mark.parametrize("reason", ["", "= 2**3 * 5**2 \u043d\u043e \u0441\u0442\u043e", "OK  two  spaces "])
def test_reason_phrases(reason: str) -> None:
    data = build(start=f"SIP/2.0 200 {reason}")
    message = parse(data)
    assert isinstance(message, Response)
    assert message.reason == reason
    assert message.to_bytes().startswith(data[: data.index(b"\r\n")])


def test_compact_forms_and_comma_lists_mean_the_same() -> None:
    message = parse(build("k: a", "Supported: b,c", "SUPPORTED: d", "m: <sip:a@b>, <sip:c@d>", "o: presence", "x: 90"))
    assert message.headers.values("Supported") == ["a", "b", "c", "d"]
    assert [one.uri for one in message.contacts] == ["sip:a@b", "sip:c@d"]
    assert (message.headers.get("Event"), message.headers.get("Session-Expires")) == ("presence", "90")


def test_repeated_equal_content_lengths_become_one() -> None:
    message = parse(build("Content-Length: 2", "l: 2", body=b"ab"))
    assert message.to_bytes().lower().count(b"content-length") + message.to_bytes().count(b"\r\nl:") == 1


@pytest.mark.parametrize(
    ("line", "host", "port"),
    [
        ("Via: SIP/2.0/UDP [2001:db8::9:1];branch=z9hG4bKa", "2001:db8::9:1", None),
        ("Via: SIP/2.0/UDP [2001:db8::9:1]:5070;received=[2001:db8::9:255];branch=z9hG4bKa", "2001:db8::9:1", 5070),
        (
            "Via: SIP/2.0/UDP [::ffff:192.0.2.10]:19823;received=2001:db8::9:255;branch=z9hG4bKa",
            "::ffff:192.0.2.10",
            19823,
        ),
    ],
)
def test_ipv6_in_via(line: str, host: str, port: int | None) -> None:
    via = parse(replaced(line)).via
    assert (via.host, via.port) == (host, port)
    assert via.received in (None, "2001:db8::9:255")


def test_ipv6_in_request_uri() -> None:
    message = parse(build(start="INVITE sip:[2001:db8::10]:5070 SIP/2.0"))
    assert isinstance(message, Request)
    assert SipUri.parse(message.uri).port == 5070
    # Without brackets the port cannot be told from the address (RFC 5118 4.2).
    with pytest.raises(ProtocolError):
        SipUri.parse("sip:2001:db8::10:5070")


# --- bad ---


@pytest.mark.parametrize(
    ("start", "reason", "status"),
    [
        ("INVITE <sip:bob@example.org> SIP/2.0", "sip.start-line", 400),
        ("INVITE sip:bob@example.org; lr SIP/2.0", "sip.start-line", 400),
        ("INVITE  sip:bob@example.org  SIP/2.0", "sip.start-line", 400),
        ("INVITE sip:bob@example.org SIP/2.0  ", "sip.start-line", 400),
        ("INVITE sip:bob@example.org", "sip.start-line", 400),
        ("INVITE SIP/2.0", "sip.start-line", 400),
        ("INV ITE sip:b SIP/2.0", "sip.start-line", 400),
        ("INVITE bob SIP/2.0", "sip.start-line", 400),
        ("INVITE sip:bob@example.org SIP/7.0", "sip.version", 505),
        ("\u0130NVITE sip:bob@example.org SIP/2.0", "sip.start-line", 400),
        (f"INVITE sip:{'b' * 5000} SIP/2.0", "sip.oversize", 414),
    ],
)
def test_broken_request_lines_can_be_answered(start: str, reason: str, status: int) -> None:
    error = refused(build(start=start))
    assert (error.reason, error.status) == (reason, status)
    assert error.message is not None
    reply = error.message.reply(error.status)
    assert reply.headers.get("via") == "SIP/2.0/UDP 192.0.2.7;branch=z9hG4bKx"
    assert parse(reply.to_bytes()).to_bytes() == reply.to_bytes()


@pytest.mark.parametrize(
    "start",
    ["SIP/2.0 4294967301 better not", "SIP/2.0 99 X", "SIP/2.0 OK", "SIP/2.0", "SIP/2.0 700 X", "SIP/3.0 200 OK"],
)
def test_broken_responses_are_not_answered(start: str) -> None:
    assert refused(build(start=start)).message is None


@pytest.mark.parametrize("name", ["Via", "From", "To", "Call-ID", "CSeq"])
def test_missing_mandatory_header(name: str) -> None:
    error = refused(build(without=name))
    assert error.reason == "sip.missing"
    assert name.lower() in error.hint
    if name == "Via":
        assert error.message is None, "nobody knows where to"
        return
    assert error.message is not None
    answer = error.message.reply(error.status)
    assert answer.status == 400
    assert {key.lower() for key, _ in answer.headers} == {"via", "from", "to", "call-id", "cseq"} - {name.lower()}


def test_a_request_with_next_to_nothing_is_answered() -> None:
    """RFC 4475 3.3.1: no From, To or Call-ID; a 400 to the Via is the ideal."""
    error = refused(build(headers=("CSeq: 193942 INVITE", "Via: SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf")))
    assert error.message is not None
    assert error.message.reply(400).headers.get("via") == "SIP/2.0/UDP 192.0.2.95;branch=z9hG4bKkdj.insuf"


def test_an_ack_without_a_cseq_is_not_answered() -> None:
    assert refused(build(start="ACK sip:b@example.org SIP/2.0", without="CSeq")).message is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (replaced("Via: SIP/2.0/UDP 192.0.2.15;;,;,,"), "sip.params"),
        (replaced("Via: garbage"), "sip.via"),
        (replaced('From: "unclosed <sip:a@b>;tag=1'), "sip.name-addr"),
        (replaced("To: sip:j_user@example.com, junk <sip:x>"), "sip.name-addr"),
        (replaced("To: <sip:a b@example.com>"), "sip.name-addr"),
        (replaced("From: Bell, Alexander <sip:a@b>;tag=1"), "sip.name-addr"),
        (replaced("CSeq: 36893488147419103232 INVITE"), "sip.cseq"),
        (replaced("CSeq: 8 OPTIONS"), "sip.cseq"),
        (replaced("Call-ID:"), "sip.call-id"),
        (replaced("Call-ID: two words"), "sip.call-id"),
        (build("Content-Length: 9999", body=b"x"), "sip.short-body"),
        (build("Content-Length: -999"), "sip.content-length"),
        (build("Content-Length: \u0661"), "sip.content-length"),
        (build("Content-Length: 1", "Content-Length: 2", body=b"ab"), "sip.content-length"),
        (build("Content-Length:", body=b"ab"), "sip.content-length"),
        (build("To: <sip:other@example.org>"), "sip.repeated"),
        (build("f: <sip:other@example.org>;tag=2"), "sip.repeated"),
        (build("CSeq: 1 INVITE"), "sip.repeated"),
        (build("No colon here"), "sip.header"),
        (build(": no name"), "sip.header"),
        (build("Bad Name: x"), "sip.header"),
        (build("X: a\nVia: SIP/2.0/UDP smuggled"), "sip.line-end"),
        (build("X: a\rb"), "sip.line-end"),
        (build(" folded", headers=()), "sip.start-line"),
        (build()[:-2], "sip.header-end"),
        (b"\r\n\r\n", "sip.keepalive"),
        (b"", "sip.header-end"),
        (b"\x00" * 20, "sip.header-end"),
    ],
)
def test_bad_messages(data: bytes, reason: str) -> None:
    assert refused(data).reason == reason


def test_a_broken_ack_is_never_answered() -> None:
    headers = tuple(line.replace("1 INVITE", "1 ACK") for line in HEADERS)
    assert refused(build("bad", start="ACK sip:b SIP/2.0", headers=headers)).message is None


def test_answer_to_a_message_with_a_short_body() -> None:
    error = refused(build("Content-Length: 10", body=b"x"))
    assert error.message is not None
    assert error.message.reply(error.status).to_tag


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        (build(f"X: {'a' * 100_000}"), Limits()),
        (build("X: " + "\r\n a" * 5_000), Limits()),
        (build(*(f"X{n}: a" for n in range(300))), Limits()),
        (build(*("Via: SIP/2.0/UDP h" for _ in range(80))), Limits()),
        (build("Via: " + ", ".join(["SIP/2.0/UDP h"] * 80)), Limits()),
        (replaced("Via: " + ", ".join(["SIP/2.0/UDP h"] * 80)), Limits()),
        (build(body=b"x" * 70_000), Limits()),
        (build(), Limits(header_bytes=100)),
    ],
)
def test_too_much_of_anything(data: bytes, limits: Limits) -> None:
    error = refused(data, limits)
    assert (error.reason, error.status) == ("sip.oversize", 513)


@pytest.mark.parametrize(
    "line", ["To: " + " " * 8000 + "x", "To: " + '"' * 8001, "To: " + "<" * 8000, "Via: SIP/2.0/UDP h" + " ;" * 4000]
)
def test_values_made_to_be_slow_are_refused(line: str) -> None:
    """Each is refused; a pattern that backtracks without bound would not come back within any test's patience."""
    assert refused(replaced(line)).reason.startswith("sip.")
