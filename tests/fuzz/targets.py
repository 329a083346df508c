"""What is fed with octets, and what must hold whatever they are: one function for each target, with its corpus.

A target raises when something that must hold does not; ProtocolError and what is documented beside it is an answer,
not a fault. :mod:`tests.fuzz.test_fuzz_mutations` damages the corpora in ``make test``, :mod:`tests.fuzz.guided` lets
coverage lead it in ``make fuzz``, and :mod:`tests.fuzz.test_found` replays what either has found.
"""

from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path

from tests.playbook import alg_harness as lab
from tests.unit.imswire_bfcp.bfcp_samples import SAMPLES
from tests.unit.imswire_h248.h248_corpus import MESSAGES

from imsalg.core.admission import Admission
from imsalg.core.events import BadMessageIn, Received
from imsalg.overload_settings import OverloadSettings
from imswire.base import ProtocolError
from imswire.bfcp.framer import BfcpFramer
from imswire.bfcp.message import BadMessage as BadBfcp
from imswire.bfcp.message import parse as parse_bfcp
from imswire.h248.errors import H248Error, error_answer
from imswire.h248.parser import parse as parse_h248
from imswire.h248.writer import write as write_h248
from imswire.msrp.framer import MsrpFramer
from imswire.msrp.message import parse_head
from imswire.sdp import attributes
from imswire.sdp.model import SessionDescription
from imswire.sip.auth import Credentials
from imswire.sip.glance import glance, refusal
from imswire.sip.headers import split_values
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, Limits, StreamFramer, parse
from imswire.sip.transaction import Send
from imswire.sip.uri import SipUri, parse_uri
from imswire.sip.values import CSeq, NameAddr, SecMechanism, Via

TESTS = Path(__file__).resolve().parents[1]
SMALL = Limits(message=6_000, header_bytes=3_000)


def sip_datagram(data: bytes) -> None:
    """It parses and is written as it was read, or is refused with an answer that can be written."""
    try:
        message = parse(data)
    except BadMessage as error:
        refused = error
    else:
        _reads_again(message)
        return
    if refused.message is not None:
        answer = refused.message.reply(refused.status).to_bytes()
        assert answer.startswith(f"SIP/2.0 {refused.status} ".encode())
        assert answer.count(b"\r\n\r\n") == 1


def _reads_again(message: Request | Response) -> None:
    written = message.to_bytes()
    again = parse(written)
    assert again.to_bytes() == written
    assert (again.start_line, again.body) == (message.start_line, message.body)
    assert message.via.transport
    assert message.from_.uri
    assert message.to.uri
    assert message.call_id
    assert message.cseq.method


def sip_glance(data: bytes) -> None:
    """The quick look never raises, and what it answers to a good request is what the slow way would copy."""
    seen = glance(data)
    made = refusal(seen, lab.UE, b"503 Service Unavailable", b"Retry-After: 1\r\n")
    gate = Admission(OverloadSettings(source_rate=1.0, source_burst=1), ["access"], lambda *_: False, 1)
    gate.shedding = True
    for _ in range(4):
        gate.check(data, lab.UE, 1.0)
    try:
        message = parse(data)
    except BadMessage:
        return
    if not isinstance(message, Request) or message.method == "ACK":
        return
    if made is not None:
        answer = parse(made[0])
        assert answer.call_id == message.call_id
        assert answer.cseq == message.cseq
        assert answer.via.branch == message.via.branch
        assert answer.to_tag


def _frames(data: bytes, size: int) -> tuple[list[object], str]:
    framer = StreamFramer(SMALL)
    out: list[object] = []
    for at in range(0, len(data), size):
        try:
            out += framer.feed(data[at : at + size])
        except BadMessage:
            break
        if framer.error is not None:
            break
        assert framer.pending <= SMALL.message + size
    return out, "" if framer.error is None else framer.error.reason


def sip_stream(data: bytes) -> None:
    """What the framer makes of a stream does not depend on how it was cut."""
    whole = _frames(data, len(data) or 1)
    assert _frames(data, 1) == whole
    assert _frames(data, 7) == whole


def sip_values(data: bytes) -> None:
    """Header values read and survive a round trip, or are refused."""
    text = data.decode("utf-8", "surrogateescape")
    for kind in (SipUri, NameAddr, Via, CSeq, SecMechanism, Credentials):
        try:
            value = kind.parse(text)
        except ProtocolError:
            continue
        again = kind.parse(str(value))
        if isinstance(value, NameAddr) and isinstance(again, NameAddr):  # a display name may get its missing quotes
            assert (again.display_name, again.uri, again.params) == (value.display_name, value.uri, value.params)
        else:
            assert again == value
    for way in (parse_uri, split_values):
        try:
            way(text)
        except ProtocolError:
            continue


def sdp(data: bytes) -> None:
    """A body is written as it was read; its attributes read or are refused."""
    description, refused = _attempt(lambda: SessionDescription.parse(data))
    assert refused.startswith("sdp.") or not refused
    if description is None:
        return
    assert description.to_bytes() == data
    for media in description.media:
        for view in (attributes.e2ae_of, attributes.path_of, attributes.max_size, attributes.sctp_port):
            reason = _attempt(partial(view, media))[1]
            assert reason.startswith("sdp.") or not reason
        _attempt(partial(attributes.fingerprints, description, media))
        _attempt(partial(attributes.setup_of, media, description))
        _attempt(partial(description.address_of, media))


def _attempt[T](call: Callable[[], T]) -> tuple[T | None, str]:
    """The result and "", or None and the reason of the one error that is allowed."""
    try:
        return call(), ""
    except ProtocolError as error:
        return None, error.reason


def edge(data: bytes) -> None:
    """One datagram after another, parted by four hash signs, through door and engine: answered, sent on or dropped."""
    book = lab.Book()
    lab.register(book)
    for number, part in enumerate(data.split(b"####")[:6]):
        flow = (lab.UE, lab.SCSCF)[number % 2] if number else lab.UE
        try:
            event: Received | BadMessageIn = Received(parse(part), flow)
        except BadMessage as error:
            event = BadMessageIn(error, flow)
        for command in book.engine.handle(event, book.now):
            if isinstance(command, Send):
                command.message.to_bytes()
    book.advance(2_000.0)
    assert book.engine.stats.bugs == 0
    gauges = book.engine.gauges
    assert gauges["held"] == 0
    assert gauges["forwards"] == 0


def h248(data: bytes) -> None:
    """A message is refused by name, or written and read back equal."""
    try:
        message = parse_h248(data)
    except ProtocolError as fault:
        answer = error_answer(fault, "gw") if isinstance(fault, H248Error) else None
        if answer is not None:
            assert parse_h248(write_h248(answer)) == answer
        return
    for pretty in (True, False):
        assert parse_h248(write_h248(message, pretty=pretty)) == message


def _msrp(data: bytes, size: int) -> tuple[list[str], str]:
    framer = MsrpFramer(400)
    seen: list[str] = []
    try:
        for at in range(0, len(data), size):
            for event in framer.feed(data[at : at + size]):
                name = type(event).__name__
                if name != "BodyRead":
                    seen.append(repr(event))
            assert framer.pending <= 400
    except ProtocolError as error:
        return seen, error.reason
    return seen, ""


def msrp(data: bytes) -> None:
    """Heads read and survive writing; the framer does not care how a stream was cut."""
    whole = _msrp(data, len(data) or 1)
    assert _msrp(data, 1) == whole
    raw = data.partition(b"\r\n-------")[0].partition(b"\r\n\r\n")[0] + b"\r\n"
    try:
        head = parse_head(raw, has_body=True)
    except ProtocolError:
        return
    assert parse_head(head.to_bytes()[:-2], has_body=True) == head


def _bfcp(data: bytes, size: int) -> tuple[list[bytes], str]:
    framer = BfcpFramer(4_096)
    out: list[bytes] = []
    for at in range(0, len(data), size):
        try:
            out += framer.feed(data[at : at + size])
        except BadBfcp:
            break
        if framer.error is not None:
            break
    return out, "" if framer.error is None else framer.error.reason


def bfcp(data: bytes) -> None:
    """A message is refused, or written as it was read; the framer does not care how a stream was cut."""
    assert _bfcp(data, 1) == _bfcp(data, len(data) or 1)
    try:
        message = parse_bfcp(data)
    except BadBfcp:
        return
    written, reason = _attempt(message.to_bytes)
    if written is None:
        assert reason == "bfcp.range", "an attribute type 0 is read, as any unknown one, and never written"
        return
    assert parse_bfcp(written) == message


def _golden() -> list[bytes]:
    return [path.read_bytes() for path in sorted((TESTS / "golden").glob("*.in"))]


def _torture() -> list[bytes]:
    found: Iterable[Path] = (
        path for rfc in ("rfc4475", "rfc5118") for path in sorted((TESTS / "torture" / rfc).iterdir())
    )
    return [path.read_bytes() for path in found]


def _calls() -> list[bytes]:
    """Requests of a UE with each golden offer, and a few in a row."""
    call = [lab.sip(lab.request(), body.decode("utf-8", "surrogateescape")) for body in _golden()[::4]]
    rows = [lab.sip(lab.request(method)) for method in ("INVITE", "CANCEL", "BYE", "SUBSCRIBE", "REGISTER", "OPTIONS")]
    answers = [b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 10.9.0.1:5060;branch=z9hG4bK-p-2\r\n" + one for one in (b"\r\n",)]
    return [*call, *rows, b"####".join(rows), b"####".join([rows[0], *answers, rows[2]])]


def _msrp_samples() -> list[bytes]:
    head = b"MSRP tid12345 SEND\r\nTo-Path: msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:1/s;tcp\r\nMessage-ID: m1\r\n"
    body = b"Byte-Range: 1-5/5\r\nContent-Type: text/plain\r\n\r\nhello\r\n"
    end = b"-------tid12345$\r\n"
    answer = b"MSRP tid12345 200 OK\r\nTo-Path: msrp://b:2/t;tcp\r\nFrom-Path: msrp://a:1/s;tcp\r\n"
    report = head.replace(b"SEND", b"REPORT") + b"Byte-Range: 1-5/5\r\nStatus: 000 200 OK\r\n"
    return [head + end, head + body + end, answer + end, report + end, (head + body + end) * 2 + answer + end]


def _values() -> list[bytes]:
    lines = [line for one in _torture() for line in one.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    return [line.partition(b":")[2].strip() for line in lines]


TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], list[bytes]]]] = {
    "sip-datagram": (sip_datagram, lambda: _torture() + _calls()),
    "sip-glance": (sip_glance, lambda: _torture() + _calls()),
    "sip-stream": (sip_stream, lambda: [*_torture(), b"\r\n\r\n".join(_torture()[:6])]),
    "sip-values": (sip_values, _values),
    "sdp": (sdp, _golden),
    "edge": (edge, lambda: _torture() + _calls()),
    "h248": (h248, lambda: [write_h248(one, pretty=way) for one in MESSAGES.values() for way in (True, False)]),
    "msrp": (msrp, _msrp_samples),
    "bfcp": (bfcp, lambda: [one.to_bytes() for one in SAMPLES.values()]),
}
"""Name -> the function, and what makes its corpus."""

TOKENS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b";",
        b",",
        b'"',
        b"<",
        b">",
        b"@",
        b"%",
        b"%00",
        b"=",
        b"\\",
        b"[",
    ),
    *(
        b"SIP/2.0",
        b"z9hG4bK",
        b"Via: SIP/2.0/UDP h",
        b"To: <sip:a@b>;tag=1",
        b"Content-Length: 0",
        b"l: 99999",
        b"####",
    ),
    *(
        b"2147483648",
        b"4294967296",
        b"-1",
        b"99999999999999999999",
        b"{",
        b"}",
        b"$",
        b"-------",
        b"m=",
        b"a=setup:active",
    ),
)


@cache
def corpus(name: str) -> tuple[bytes, ...]:
    """The good and bad examples that a target's inputs are made from."""
    return tuple(one for one in TARGETS[name][1]() if one)
