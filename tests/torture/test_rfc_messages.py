"""Every message of RFC 4475 and RFC 5118, to the octet, through the real edge: door, transactions and proxy core.

:data:`EXPECTED` is the one table of what becomes of each. The messages come out of the RFCs' own archives
(:mod:`tests.torture.extract`). The edge lets strangers call here, so that a request is judged by its form alone.
"""

from pathlib import Path

import pytest
from tests.playbook import alg_harness as lab

from imsalg.core.events import BadMessageIn, Received
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, parse
from imswire.sip.transaction import Send

HERE = Path(__file__).resolve().parent
SOURCE = Flow("udp", "access", lab.ACCESS, ("192.0.2.1", 5060))
DROPPED = "dropped"
FORWARDED = "forwarded"

EXPECTED: dict[str, tuple[str | int, str]] = {
    # --- RFC 4475 3.1.1, valid ---
    "wsinv": (481, "well formed; its To has a tag, and no Route of this edge says of which dialog it is"),
    "intmeth": (FORWARDED, "a method and a user part made of everything that a token may hold"),
    "esc01": (FORWARDED, "escapes stay as they are"),
    "escnull": (FORWARDED, "REGISTER: the core decides; escaped nulls shorten nothing"),
    "esc02": (FORWARDED, "RE%47IST%45R is not REGISTER, C%6Fntact is not Contact"),
    "lwsdisp": (FORWARDED, "no space before the angle bracket"),
    "longreq": (FORWARDED, "34 Vias and long values of everything"),
    "dblreq": (FORWARDED, "what follows Content-Length in the datagram is noise and not sent on (RFC 3261 18.3)"),
    "semiuri": (FORWARDED, "a semicolon and an escaped @ in the user part"),
    "transports": (FORWARDED, "transports in lower Vias are nobody's business here"),
    "mpart01": (FORWARDED, "NUL octets in a multipart body; the Route, which is no Service-Route, is replaced"),
    "unreason": (DROPPED, "well formed; a response to nothing (RFC 6026 7.2); forwarded when asked for, below"),
    "noreason": (DROPPED, "as unreason; a 100 is not forwarded (RFC 3261 16.7)"),
    # --- RFC 4475 3.1.2, invalid ---
    "badinv01": (400, "separators without anything between them"),
    "clerr": (400, "Content-Length above what the datagram holds"),
    "ncl": (400, "negative Content-Length"),
    "scalar02": (400, "CSeq above 2**32-1"),
    "scalarlg": (DROPPED, "a response with such a CSeq"),
    "quotbal": (400, "display name without closing quote"),
    "ltgtruri": (400, "Request-URI in angle brackets"),
    "lwsruri": (400, "space in the Request-URI"),
    "lwsstart": (400, "two spaces in the request line"),
    "trws": (400, "spaces after the version"),
    "escruri": (400, "headers part in the Request-URI"),
    "baddate": (FORWARDED, "a Date that the edge does not use is not its business"),
    "regbadct": (400, "a Contact URI with a question mark outside angle brackets"),
    "badaspec": (FORWARDED, "blanks inside the angle brackets are put up with and stay as they are"),
    "baddn": (400, "as in the archive, where the empty line after the header section is missing too"),
    "baddn, ended": (400, "unquoted commas in display names"),
    "badvers": (505, "SIP/7.0"),
    "mismatch01": (400, "CSeq of another method"),
    "mismatch02": (501, "the same with an unknown method"),
    "bigcode": (DROPPED, "status 4294967301"),
    # --- RFC 4475 3.2 ---
    "badbranch": (FORWARDED, "told apart from others as RFC 2543 has it, see below"),
    # --- RFC 4475 3.3 ---
    "insuf": (400, "neither From nor To nor Call-ID: answered with what there is"),
    "unkscm": (416, "a scheme that nobody knows"),
    "novelsc": (416, "a scheme that means nothing here"),
    "unksm2": (FORWARDED, "schemes in To, From and Contact are for the registrar"),
    "bext01": (420, "Proxy-Require names two unknown extensions"),
    "invut": (FORWARDED, "a body that is no SDP is not the edge's"),
    "regaut01": (FORWARDED, "unknown Authorization schemes pass"),
    "multi01": (400, "two of everything that there may be one of"),
    "mcl01": (400, "Content-Lengths that differ"),
    "bcast": (DROPPED, "nothing is sent to an address that a response names"),
    "zeromf": (200, "Max-Forwards 0: RFC 3261 16.3 step 3 lets the proxy answer OPTIONS itself; others get 483, below"),
    "cparam01": (FORWARDED, "a Contact parameter outside the URI"),
    "cparam02": (FORWARDED, "a Contact parameter inside the URI"),
    "regescrt": (FORWARDED, "a Contact URI with a headers part, in angle brackets"),
    "sdp01": (FORWARDED, "what the caller accepts is between the ends"),
    # --- RFC 4475 3.4 ---
    "inv2543": (FORWARDED, "no branch, no tag, no Max-Forwards, no Content-Length"),
    # --- not described in RFC 4475, but in its archive ---
    "test": (DROPPED, "no SIP and no Via: there is nobody to answer"),
    # --- RFC 5118 4 ---
    "ipv6-good": (FORWARDED, "IPv6 references in all places"),
    "ipv6-bad": (400, "IPv6 without brackets in the Request-URI"),
    "port-ambiguous": (FORWARDED, "a port inside the brackets is part of the address"),
    "port-unambiguous": (FORWARDED, "the port behind the bracket"),
    "via-received-param-with-delim": (481, "well formed; a BYE of no dialog here"),
    "via-received-param-no-delim": (FORWARDED, "received without brackets"),
    "ipv6-in-sdp": (400, "the RFC's Content-Length, 268, is more than its body has with either line end"),
    "ipv6-in-sdp, length put right": (FORWARDED, "IPv6 in SDP"),
    "mult-ip-in-header": (481, "well formed; a BYE of no dialog here"),
    "mult-ip-in-sdp": (FORWARDED, "IPv4 and IPv6 in one SDP"),
    "ipv4-mapped-ipv6": (FORWARDED, "::ffff:192.0.2.10"),
    "ipv6-bug-abnf-3-colons": (400, "as in the archive, without the empty line after the header section"),
    "ipv6-bug-abnf-3-colons, ended": (FORWARDED, "the third colon of RFC 3261's grammar is put up with and stays"),
    "ipv6-correct-abnf-2-colons": (400, "as in the archive, without the empty line after the header section"),
    "ipv6-correct-abnf-2-colons, ended": (FORWARDED, "two colons"),
}

REPAIRS = {
    "length put right": lambda data: data.replace(b"Content-Length: 268", b"Content-Length: 251"),
    "ended": lambda data: data + b"\r\n",
}
"""What the archives' own slips need before the RFC's point can be seen."""
# What a proxy must touch (RFC 3261 16.6, RFC 3327), and what an edge may not leave (TS 24.229 5.2.6.3).
TOUCHED = ("via", "v", "max-forwards", "route", "record-route", "require", "supported", "content-length", "l")


def octets(name: str) -> bytes:
    """A message by name, repaired where the name says so.

    RFC 5118's archive has bare LF where SIP, and the RFC's own Content-Length, have CRLF.
    """
    name, _, repair = name.partition(", ")
    paths = [HERE / "rfc4475" / f"{name}.dat", HERE / "rfc5118" / name]
    data = next(path for path in paths if path.is_file()).read_bytes()
    data = data if b"\r\n" in data else data.replace(b"\n", b"\r\n")
    return REPAIRS[repair](data) if repair else data


def receive(book: lab.Book, data: bytes, flow: Flow = SOURCE) -> list[tuple[bytes, Flow]]:
    """What the door and the engine make of one datagram: octets and where they go, 100 Trying left out."""
    try:
        event: Received | BadMessageIn = Received(parse(data), flow)
    except BadMessage as error:
        event = BadMessageIn(error, flow)
    sent = [one for one in book.engine.handle(event, book.now) if isinstance(one, Send)]
    assert book.engine.stats.bugs == 0
    return [
        (one.message.to_bytes(), one.flow)
        for one in sent
        if not (isinstance(one.message, Response) and one.message.status == 100)
    ]


def strangers_call() -> lab.Book:
    return lab.Book(lab.settings(access={"allow_unregistered": True}))


def header_lines(data: bytes) -> list[bytes]:
    """Header lines with their folds, as they stand."""
    return data.partition(b"\r\n\r\n")[0].replace(b"\r\n ", b"\0 ").replace(b"\r\n\t", b"\0\t").split(b"\r\n")[1:]


def kept(data: bytes) -> list[bytes]:
    """The header lines that no proxy has to touch."""
    return [line for line in header_lines(data) if line.partition(b":")[0].strip().lower().decode() not in TOUCHED]


def forwarded_unchanged(given: bytes, sent: bytes) -> None:
    """Nothing is lost and nothing differs: what is there beside it was added by this edge."""
    assert sent.partition(b"\r\n")[0] == given.partition(b"\r\n")[0]
    before, after = kept(given), kept(sent)
    added = [line for line in after if line not in before]
    assert [line for line in after if line not in added] == before, "every other line, to the octet and in order"
    assert {line.partition(b":")[0].lower()[:2] for line in added} <= {b"p-", b"pa"}, "P-... and Path are the edge's"
    vias = [line for line in header_lines(given) if line.partition(b":")[0].strip().lower() in (b"via", b"v")]
    now = [line for line in header_lines(sent) if line.partition(b":")[0].strip().lower() in (b"via", b"v")]
    assert b"10.9.0.1" in now[0]
    assert now[2:] == vias[1:], "of the sender's Vias only the top one may get received and rport (RFC 3261 18.2.1)"
    message = parse(given)
    assert sent.partition(b"\r\n\r\n")[2] == message.body
    hops = parse(sent).max_forwards
    assert hops == (70 if message.max_forwards is None else message.max_forwards - 1)


def test_the_table_has_every_message_of_both_archives() -> None:
    found = [path.name.removesuffix(".dat") for rfc in ("rfc4475", "rfc5118") for path in (HERE / rfc).iterdir()]
    assert sorted(found) == sorted(name for name in EXPECTED if "," not in name)
    assert len(found) == 62


@pytest.mark.parametrize("name", EXPECTED)
def test_what_becomes_of_it(name: str) -> None:
    expected, why = EXPECTED[name]
    data = octets(name)
    sent = receive(strangers_call(), data)
    if expected == DROPPED:
        assert sent == [], why
        return
    assert len(sent) == 1, why
    answer, flow = sent[0]
    if expected == FORWARDED:
        assert flow.realm == "core", why
        forwarded_unchanged(data, answer)
        return
    assert flow.realm == "access", why
    assert flow.remote[0] == SOURCE.remote[0], "an answer goes to where the request came from"
    assert answer.startswith(f"SIP/2.0 {expected} ".encode()), why


@pytest.mark.parametrize("name", ["unreason", "noreason"])
def test_odd_reasons_in_responses_that_were_asked_for(name: str) -> None:
    """The response with the Vias of a call that waits for one: forwarded to the octet, a 100 swallowed."""
    book = strangers_call()
    book.receive(SOURCE, lab.request(flow=SOURCE, number=35), lab.AUDIO + "m=video 4002 RTP/AVP 31")
    asked = book.request("INVITE")
    data = octets(name)
    vias = b"\r\n".join(f"Via: {via}".encode() for via in asked.headers.get_all("via"))
    given = b"\r\n".join(vias if line.startswith(b"Via:") else line for line in data.split(b"\r\n"))
    sent = receive(book, given, lab.SCSCF)
    if name == "noreason":
        assert sent == []
        return
    [(answer, flow)] = sent
    assert flow == SOURCE
    assert answer.partition(b"\r\n")[0] == data.partition(b"\r\n")[0]
    assert [line for line in kept(answer) if not line.lower().startswith(b"p-")] == kept(data)
    assert answer.partition(b"\r\n\r\n")[2] == data.partition(b"\r\n\r\n")[2]


def test_max_forwards_zero_of_another_method_is_483() -> None:
    data = octets("zeromf").replace(b"OPTIONS", b"MESSAGE")
    assert receive(strangers_call(), data)[0][0].startswith(b"SIP/2.0 483 ")


def test_requests_that_name_no_transaction_are_not_taken_for_each_other() -> None:
    """RFC 4475 3.2.1: two requests with the branch z9hG4bK alone are two requests."""
    book, data = strangers_call(), octets("badbranch")
    assert len(receive(book, data)) == 1
    assert len(receive(book, data.replace(b"badbranch.", b"another."))) == 1
    assert receive(book, data) == [], "while the same one again is a repetition"


def test_420_names_the_extensions_of_proxy_require() -> None:
    [(answer, _)] = receive(strangers_call(), octets("bext01"))
    assert parse(answer).headers.values("unsupported") == ["noProxiesSupportThis", "norDoAnyProxiesSupportThis"]


def test_bare_line_feeds_are_no_sip() -> None:
    """RFC 5118's archive as it is: lines end with LF alone, which RFC 3261 7.2 does not have."""
    for path in sorted((HERE / "rfc5118").iterdir()):
        assert receive(strangers_call(), path.read_bytes()) == [], path.name


@pytest.mark.parametrize("name", [name for name, (outcome, _) in EXPECTED.items() if outcome == FORWARDED])
def test_what_is_forwarded_reads_and_writes_itself(name: str) -> None:
    data = octets(name)
    message = parse(data)
    assert isinstance(message, Request)
    if "content-length" in message.headers:
        head = data.partition(b"\r\n\r\n")[0]
        assert message.to_bytes() == head + b"\r\n\r\n" + message.body
