"""Whatever a peer sends that parses, in any order: the engine answers or drops, and never meets a bug of its own."""

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.playbook import alg_harness as lab

from imsalg.core.events import FlowClosed, Received
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import BadMessage, parse

METHODS = ("INVITE", "ACK", "BYE", "CANCEL", "MESSAGE", "REGISTER", "SUBSCRIBE", "UPDATE", "PRACK", "NOTIFY", "FOO")
VALUES = (
    *("", "<>", "<sip:>", "sip:a@b;tag=", "*", "0", "-1", "99999999999", '"', "\x7f", "1 INVITE"),
    *("<sip:x@10.0.0.1:5060;lr>", "<sip:pAAAA@10.9.0.1:5060;lr>", "<sip:alice@10.0.0.7:5070>;expires=0"),
    *("<tel:+1>, <sip:a@b>", "msrp-tls;mediasec, ;", "tls;q=0.2, msrp-tls;mediasec", "sec-agree", "id;history", "reg"),
    *('icid-value="', "icid-value=1;icid-generated-at", "terminated;reason=", "<sip:alice@10.0.0.7:5070;sos>"),
)
NAMES = (
    *("Route", "Record-Route", "Path", "Contact", "To", "Max-Forwards", "Expires", "Content-Type", "Privacy"),
    *("Proxy-Require", "Require", "Security-Client", "Security-Verify", "Service-Route"),
    *("P-Preferred-Identity", "P-Associated-URI", "P-Charging-Vector", "P-Access-Network-Info", "P-Early-Media"),
    *("Allow-Events", "Event", "Subscription-State", "Security-Server", "Min-Expires", "Priority"),
)
BODIES = (lab.AUDIO, "v=0", "rubbish", "")
TCP = Flow("tcp", "access", lab.ACCESS, ("10.0.0.7", 40000), 9)
FLOWS = (lab.UE, lab.UE_B, lab.SCSCF, TCP)

edits: st.SearchStrategy[list[tuple[str, str]]] = st.one_of(
    st.just([]), st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=3)
)
bodies = st.sampled_from((lab.AUDIO, *BODIES))
requests = st.tuples(
    st.just("request"),
    st.one_of(st.sampled_from(("INVITE", "ACK", "BYE", "CANCEL")), st.sampled_from(METHODS)),
    st.one_of(st.just(lab.UE), st.just(lab.SCSCF), st.sampled_from(FLOWS)),
    st.integers(0, 2),
    st.booleans(),
    edits,
    bodies,
)
responses = st.tuples(
    st.just("response"),
    st.integers(0, 5),
    st.sampled_from((100, 180, 183, 200, 200, 302, 401, 487, 500)),
    edits,
    st.sampled_from(("one", "one", "two", "")),
    bodies,
)
steps = st.one_of(
    requests, responses, st.tuples(st.just("time"), st.sampled_from((0.4, 33.0, 200.0))), st.just(("close",))
)


def in_dialog(sent: list[tuple[Request | Response, Flow]], flow: Flow) -> list[str]:
    """Route lines from the last Record-Route that the engine showed to anybody, as the far end of ``flow`` has them."""
    for message, _ in reversed(sent):
        values = message.headers.values("record-route")
        if values:
            access_first = ("@10.0.0.1" in values[0]) is (flow.realm == "access")
            return [f"Route: {value}" for value in (values if access_first else reversed(values))]
    return []


@settings(max_examples=200, deadline=None)
@given(st.booleans(), st.lists(steps, min_size=1, max_size=12))
def test_nothing_that_parses_is_a_bug(strangers: bool, script: list[tuple[object, ...]]) -> None:
    book = lab.Book(
        lab.settings(
            access={"allow_unregistered": strangers},
            core={"emergency_next_hop": "sip:10.9.0.66"},
            reg_event={"subscribe": "always"},
        )
    )
    lab.register(book, "alice")
    lab.register(book, "bob", lab.UE_B)
    book.receive(lab.UE, lab.request(branch="h0"), lab.AUDIO)
    seen = book.out()
    for number, step in enumerate(script):
        match step:
            case ("request", str(method), Flow() as flow, int(branch), bool(routed), list(changes), str(body)):
                extra = in_dialog(seen, flow) if routed else []
                names = {"to": "<sip:bob@example.net>;tag=one"} if routed else {}
                if routed and flow.realm == "core":
                    names = {"from_": "<sip:bob@example.net>;tag=one", "to": "<sip:alice@example.net>;tag=al"}
                branched = f"h{branch}" if method in ("ACK", "CANCEL") else f"h{branch}-{number}"
                text = lab.request(method, *extra, branch=branched, flow=flow, number=number + 1, **names)
                octets = lab.sip(text, body).split(b"\r\n\r\n", 1)
                lines = "".join(f"\r\n{name}: {value}" for name, value in changes).encode()
                data = octets[0] + lines + b"\r\n\r\n" + octets[1]
            case ("response", int(index), int(status), list(changes), str(tag), str(body)):
                asked = [(m, f) for m, f in seen if isinstance(m, Request) and m.method != "ACK"]
                if not asked:
                    continue
                target, way = asked[index % len(asked)]
                assert isinstance(target, Request)
                flow = Flow(way.transport, way.realm, way.local, way.remote, way.connection)
                headers = [f"{name}: {value}" for name, value in changes if "\x7f" not in value]
                data = lab.answer(target, status, *headers, tag=tag or "none", body=body)
            case ("time", float(seconds)):
                book.advance(seconds)
                seen += book.out()
                continue
            case _:
                book.feed(FlowClosed(TCP))
                continue
        try:
            message = parse(data)
        except BadMessage:
            continue
        book.feed(Received(message, flow))
        seen += book.out()  # looks for logged bugs
    book.advance(10_000.0)
    book.out()
    assert book.engine.stats.bugs == 0
    gauges = book.engine.gauges
    assert gauges["held"] == 0
    assert gauges["forwards"] == 0, "nothing that was forwarded is remembered for ever"
