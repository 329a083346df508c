"""What one daemon builds the other reads, through the wire; values outside the profile have their error codes."""

import msgspec
import pytest
from tests.unit.imswire_h248 import h248_corpus as corpus

from imswire.h248 import iq, packages
from imswire.h248.body import read_body, read_fingerprint
from imswire.h248.errors import CODES, H248Error, error_answer
from imswire.h248.model import (
    Action,
    Command,
    ErrorDescriptor,
    Event,
    Events,
    LocalControl,
    Media,
    Message,
    ObservedEvents,
    Parameter,
    Signal,
    Signals,
    Stream,
    TransactionReply,
    TransactionRequest,
    Unknown,
)
from imswire.h248.parser import parse
from imswire.h248.writer import write

REQUESTS = [
    corpus.ORIGINATING_CORE,
    corpus.ORIGINATING_ACCESS,
    corpus.TERMINATING_ACCESS,
    corpus.TERMINATING_CORE,
    corpus.IPV6_ACCESS,
    corpus.IPV6_CORE,
    corpus.AWARE_CORE,
    corpus.AWARE_ACCESS,
    corpus.BFCP_ACCESS_SERVER,
    corpus.BFCP_ACCESS_CLIENT,
    iq.StreamRequest("r", "TCP", source_filter="address", source_mask="2001:db8::/32", source_ports=(1, 1), latch=True),
    iq.StreamRequest("r", "TCP", latch=False),
    iq.StreamRequest("a b", "TCP/TLS", mode="Inactive", tcp_mode="relay", request_id=77),
    iq.StreamRequest("r", "TCP/TLS", start_tls=True, source_filter="address-and-port"),
    iq.StreamRequest(
        "r",
        "TCP/TLS/MSRP",
        remote=iq.RemoteSpec("h", 0, (("sha-256", bytes(32)), ("sha-512", bytes(64)))),
        notify=False,
    ),
]
CHANGES = [
    (corpus.ORIGINATING_CORE, corpus.ORIGINATING_CORE_CHANGE),
    (corpus.ORIGINATING_ACCESS, corpus.ORIGINATING_ACCESS_CHANGE),
    (corpus.TERMINATING_ACCESS, corpus.TERMINATING_ACCESS_CHANGE),
    (corpus.TERMINATING_CORE, corpus.TERMINATING_CORE_CHANGE),
    (corpus.IPV6_ACCESS, iq.StreamChange("TCP/TLS", "IP6", source_filter="off", mode="Inactive")),
    (corpus.AWARE_CORE, corpus.AWARE_CORE_CHANGE),
    (corpus.AWARE_ACCESS, corpus.AWARE_ACCESS_CHANGE),
    (corpus.AWARE_CORE, iq.StreamChange("TCP/MSRP", local_session="a/b=+~")),
    (corpus.BFCP_ACCESS_SERVER, iq.StreamChange("TCP/TLS", tls_role="client", reconnect=True)),
    (corpus.BFCP_ACCESS_SERVER, corpus.RECONNECT_ACCESS),
    (corpus.BFCP_ACCESS_SERVER, corpus.FILTERED),
    (corpus.BFCP_ACCESS_SERVER, corpus.LATCHED),
    (corpus.BFCP_ACCESS_SERVER, iq.StreamChange("TCP/TLS", latch=False)),
    (corpus.IPV6_ACCESS, iq.StreamChange("TCP/TLS", "IP6", notify=True, inactivity=60, request_id=9)),
    (corpus.IPV6_ACCESS, iq.StreamChange("TCP/TLS", "IP6", notify=False, tcp_mode="merge")),
    (corpus.IPV6_ACCESS, iq.StreamChange("TCP/TLS", "IP6")),
]


def travelled(command: Command, *, reply: bool = False) -> Command:
    """The command as the peer sees it, in the style that changes most."""
    actions = (Action(1, (command,)),)
    made = TransactionReply(1, actions) if reply else TransactionRequest(1, actions)
    transaction = parse(write(Message("gw", (made,)), pretty=True)).transactions[0]
    assert isinstance(transaction, TransactionRequest | TransactionReply)
    return transaction.actions[0].commands[0]


@pytest.mark.parametrize("request_", REQUESTS)
def test_add(request_: iq.StreamRequest) -> None:
    assert iq.read_add(travelled(iq.to_add(request_))) == request_


def test_names_in_any_case_are_the_same() -> None:
    """A peer may turn every name of the grammar to lower case."""
    command = iq.to_add(corpus.ORIGINATING_ACCESS)
    assert command.events is not None
    events = tuple(Event(event.name.lower(), event.parameters) for event in command.events.events)
    lowered = msgspec.structs.replace(command, events=Events(1, events))
    assert lowered != command
    assert iq.read_add(lowered) == corpus.ORIGINATING_ACCESS


@pytest.mark.parametrize("request_,change", CHANGES)
def test_modify(request_: iq.StreamRequest, change: iq.StreamChange) -> None:
    assert iq.read_modify(travelled(iq.to_modify("T1", change)), request_) == change


def test_a_change_is_applied_to_what_stood() -> None:
    after = corpus.ORIGINATING_CORE_CHANGE.applied(corpus.ORIGINATING_CORE)
    assert after == iq.StreamRequest(
        realm="core",
        proto="TCP",
        setup="passive",
        ignore_syn=False,
        source_filter="address",
        remote=iq.RemoteSpec("198.51.100.7", 8201),
    )
    assert corpus.TERMINATING_CORE_CHANGE.applied(corpus.TERMINATING_CORE) == corpus.TERMINATING_CORE
    cleared = iq.StreamChange("TCP/TLS", notify=False).applied(corpus.ORIGINATING_ACCESS)
    assert (cleared.notify, cleared.inactivity) == (False, None)


@pytest.mark.parametrize(
    "change,stands",
    [
        (iq.StreamChange("TCP/TLS", source_filter="off"), True),
        (iq.StreamChange("TCP/TLS", setup="active"), True),
        (iq.StreamChange("TCP/TLS", setup="passive"), False),
        (iq.StreamChange("TCP/TLS", tls_role="server"), False),
        (iq.StreamChange("TCP/TLS", reconnect=True), False),
        (iq.StreamChange("TCP/TLS", reconnect=True, start_tls=True), True),
    ],
)
def test_an_order_to_start_tls_stands_until_the_role_or_the_connection_is_another(
    change: iq.StreamChange, stands: bool
) -> None:
    before = iq.StreamRequest("r", "TCP/TLS", setup="active", start_tls=True, tls_role="client")
    assert change.applied(before).start_tls is (True if stands else None)


@pytest.mark.parametrize("start_tls", [None, False])
def test_not_to_start_tls_is_said_by_silence(start_tls: bool | None) -> None:
    assert iq.to_add(iq.StreamRequest("r", "TCP/TLS", start_tls=start_tls)).signals is None
    assert iq.to_modify("T1", iq.StreamChange("TCP/TLS", start_tls=start_tls)).signals is None


@pytest.mark.parametrize(
    "request_,address,path",
    [
        (corpus.AWARE_CORE, "192.0.2.20", "msrp://192.0.2.20:7/ue-a-77;tcp"),
        (corpus.AWARE_CORE, "2001:db8::5", "msrp://[2001:db8::5]:7/ue-a-77;tcp"),
        (iq.StreamRequest("r", "TCP/TLS/MSRP", local_session="s"), "192.0.2.9", "msrps://192.0.2.9:7/s;tcp"),
        (corpus.AWARE_ACCESS, "192.0.2.9", None),
    ],
)
def test_the_reply_names_the_path_of_the_gateway(request_: iq.StreamRequest, address: str, path: str | None) -> None:
    made = travelled(iq.add_reply(iq.AddResult("T1", address, 7), request_), reply=True)
    assert iq.read_add_reply(made) == iq.AddResult("T1", address, 7, None, path)


@pytest.mark.parametrize("fingerprint", [None, corpus.AGW_FINGERPRINT])
def test_add_reply(fingerprint: tuple[str, bytes] | None) -> None:
    result = iq.AddResult("T5", "2001:db8::5", 65535, fingerprint)
    assert iq.read_add_reply(travelled(iq.add_reply(result, corpus.IPV6_ACCESS), reply=True)) == result


def test_a_failed_add_raises_its_code() -> None:
    with pytest.raises(H248Error) as caught:
        iq.read_add_reply(Command("Add", "$", error=ErrorDescriptor(510, "full")))
    assert (caught.value.code, caught.value.hint) == (510, "full")


@pytest.mark.parametrize("kind", iq.FAILURE_KINDS)
def test_notify(kind: str) -> None:
    failure = iq.MediaFailure(kind, "why it failed")
    command = travelled(iq.to_notify("T1", failure, 5))
    assert iq.read_notify(command) == (failure,)
    assert command.observed is not None
    assert command.observed.request_id == 5


def test_notify_texts_fit_a_quoted_string() -> None:
    command = travelled(iq.to_notify("T1", iq.MediaFailure("tls-failed", 'CN="é"\r\nx\x7f'), 1))
    assert iq.read_notify(command) == (iq.MediaFailure("tls-failed", "CN='?'  x?"),)


def test_notify_of_mismatch_carries_both_fingerprints() -> None:
    assert iq.read_notify(travelled(iq.to_notify("T1", corpus.MISMATCH, 1))) == (corpus.MISMATCH,)


def test_statistics() -> None:
    given = iq.Statistics(2**63, 0, 17)
    assert iq.read_statistics(travelled(iq.subtract_reply("T1", given), reply=True).statistics) == given
    assert iq.read_statistics((Parameter("NT/OS", "4"), Parameter("x/y", "q"), Parameter("nt/or"))) == iq.Statistics(4)
    assert iq.read_statistics(None) == iq.Statistics()
    with pytest.raises(H248Error):
        iq.read_statistics((Parameter("nt/os", "-1"),))


@pytest.mark.parametrize("method,reason", [("Restart", 901), ("Forced", 905), ("Handoff", 903), ("Disconnected", 900)])
def test_service_change(method: str, reason: int) -> None:
    request = iq.ServiceChangeRequest(method, reason, 5, 1, packages.PROFILE)
    assert iq.read_service_change(travelled(iq.to_service_change(request).commands[0])) == request


@pytest.mark.parametrize("text,code", [("SC=ROOT{SV{MT=RS}}", 442), ('SC=ROOT{SV{MT=RS,RE="boot"}}', 449)])
def test_service_change_without_sense(text: str, code: int) -> None:
    transaction = parse(f"!/1 gw T=1{{C=-{{{text}}}}}".encode()).transactions[0]
    assert isinstance(transaction, TransactionRequest)
    with pytest.raises(H248Error) as caught:
        iq.read_service_change(transaction.actions[0].commands[0])
    assert caught.value.code == code


def test_audit_replies() -> None:
    assert iq.read_audit_reply(iq.audit_reply([(1, ["a", "b"]), (2, ["c"])])) == {1: ("a", "b"), 2: ("c",)}
    assert iq.read_audit_reply(iq.audit_reply([])) == {}
    assert iq.read_audit_reply((Action(3, (Command("AuditValue", "*", terminations=("x", "y")),)),)) == {3: ("x", "y")}
    with pytest.raises(H248Error) as caught:
        iq.read_audit_reply((Action(3, error=ErrorDescriptor(500)),))
    assert caught.value.code == 500


def test_lists_of_contexts() -> None:
    assert iq.read_contexts_reply(iq.audit_contexts_reply([5, 9])) == {5, 9}
    assert iq.read_contexts_reply(iq.audit_contexts_reply([])) == set()
    assert iq.read_contexts_reply(iq.audit_reply([(1, ["a"]), (2, ["b"])])) == {1, 2}
    assert iq.read_contexts_reply(iq.audit_reply([])) == set()
    with pytest.raises(H248Error) as caught:
        iq.read_contexts_reply((Action(3, (Command("AuditValue", "ROOT", error=ErrorDescriptor(533)),)),))
    assert caught.value.code == 533


def test_one_message_names_thousands_of_contexts() -> None:
    contexts = range(100_000, 103_600)
    reply = Message("agw-1", (TransactionReply(2**31, iq.audit_contexts_reply(contexts)),))
    assert len(write(reply)) < 65_000
    (read,) = parse(write(reply)).transactions
    assert isinstance(read, TransactionReply)
    assert iq.read_contexts_reply(read.actions) == set(contexts)


LOCAL = "v=0\r\nc=IN IP4 $\r\nm=message $ TCP/MSRP *"


def add(local: str | None = LOCAL, remote: str | None = None, *properties: tuple[str, str], **more: object) -> Command:
    parameters = tuple(Parameter(name, value) for name, value in (("ipdc/realm", "core"), *properties))
    stream = Stream(1, LocalControl("SendReceive", properties=parameters), local, remote)
    return msgspec.structs.replace(Command("Add", "$", media=Media((stream,))), **more)


@pytest.mark.parametrize(
    "command,code",
    [
        (Command("Add", "$"), 441),
        (add(None), 441),
        (add("hello"), 442),
        (add("v=0\r\nm=message $ TCP/MSRP *"), 442),
        (add("v=0\r\nc=IN IP4 $"), 442),
        (add(LOCAL + "\r\nm=message $ TCP/MSRP *"), 442),
        (add(LOCAL.replace("IP4", "IP5")), 449),
        (add(LOCAL.replace("TCP/MSRP", "RTP/AVP")), 449),
        (add(LOCAL.replace("m=message $", "m=message 65536")), 449),
        (add(LOCAL.replace("m=message $", "m=message x")), 449),
        (add(LOCAL + "\r\na=setup:maybe"), 449),
        (add(LOCAL + "\r\na=path:msrp://$:$/;tcp"), 449),
        (add(LOCAL + "\r\na=path:msrps://$:$/s;tcp"), 449),
        (add(LOCAL + "\r\na=path:msrp://192.0.2.1:7/s;tcp"), 449),
        (add(LOCAL + "\r\na=path:http://$:$/s;tcp"), 449),
        (add(LOCAL, LOCAL.replace("$", "192.0.2.1", 1).replace("$", "9") + "\r\na=path:msrp://a:1/s;tcp x"), 449),
        (add(LOCAL, LOCAL.replace("$", "192.0.2.1", 1).replace("$", "9") + "\r\na=path:msrp://" + "a" * 1100), 449),
        (add(LOCAL.replace("TCP/MSRP", "TCP") + "\r\na=path:msrp://$:$/s;tcp"), 449),
        (add(LOCAL, None, ("tlsbsc/role", "both")), 449),
        (add(LOCAL, None, ("gm/sam", "somewhere")), 449),
        (add(LOCAL, None, ("gm/sprr", "9-1")), 449),
        (add(LOCAL, None, ("gm/sprr", "1-2-3")), 449),
        (add(LOCAL, None, ("gm/sprr", "1-65536")), 449),
        (add(LOCAL, None, ("tcpbcc/newc", "on")), 449),
        (add(LOCAL + "\r\na=fingerprint:SHA-256 AB"), 449),
        (add(LOCAL, LOCAL), 449),
        (add(LOCAL, LOCAL.replace("TCP/MSRP", "TCP")), 449),
        (add(LOCAL, None, ("x/y", "1")), 440),
        (add(LOCAL, None, ("tcpbcc/none", "1")), 450),
        (add(LOCAL, None, ("tcpbcc/mode", "teleport")), 449),
        (add(LOCAL, None, ("gm/saf", "perhaps")), 449),
        (add(LOCAL, None, ("gm/spf", "on")), 449),
        (add(LOCAL, None, ("gm/saf", "on"), ("GM/SAF", "off")), 456),
        (add(events=Events(1, (Event("x/y"),))), 440),
        (add(events=Events(1, (Event("tcpbcc/y"),))), 451),
        (add(events=Events(1, (Event("adid/ipstop", (Parameter("q", "1"),)),))), 446),
        (add(events=Events(1, (Event("adid/ipstop", (Parameter("dt", "soon"),)),))), 449),
        (add(signals=Signals((Signal("tlsbsc/none"),))), 452),
        (add(signals=Signals((), (Unknown("SignalList", "= 1 { a/b }"),))), 513),
        (add(unknown=(Unknown("Mux", "= H221 { a }"),)), 444),
        (add(media=Media((Stream(2, local=LOCAL),))), 449),
        (add(media=Media((Stream(1, local=LOCAL), Stream(2, local=LOCAL)))), 449),
        (add(media=Media((Stream(1, local=LOCAL),))), 449),
    ],
)
def test_adds_outside_the_profile(command: Command, code: int) -> None:
    with pytest.raises(H248Error) as caught:
        iq.read_add(command)
    assert caught.value.code == code
    assert caught.value.reason == f"h248.{code}"


def test_modify_cannot_change_the_protocol() -> None:
    command = iq.to_modify("T1", iq.StreamChange("TCP/MSRP", setup="active"))
    with pytest.raises(H248Error) as caught:
        iq.read_modify(command, corpus.ORIGINATING_CORE)
    assert caught.value.code == 449


@pytest.mark.parametrize(
    "observed,code",
    [
        (None, 442),
        (ObservedEvents(1, (Event("al/on"),)), 440),
        (ObservedEvents(1, (Event("tcpbcc/BNCChange"),)), 457),
        (ObservedEvents(1, (Event("tcpbcc/BNCChange", (Parameter("Type", "Est"),)),)), 449),
    ],
)
def test_notifies_outside_the_profile(observed: ObservedEvents | None, code: int) -> None:
    with pytest.raises(H248Error) as caught:
        iq.read_notify(Command("Notify", "T1", observed=observed))
    assert caught.value.code == code


@pytest.mark.parametrize(
    "request_",
    [
        iq.StreamRequest("r", "UDP"),
        iq.StreamRequest("r", "TCP", tcp_mode="x"),
        iq.StreamRequest("r", "TCP", source_filter="x"),
        iq.StreamRequest("r", "TCP", tls_role="x"),
        iq.StreamRequest("r", "TCP", source_mask="x"),
        iq.StreamRequest("r", "TCP", source_ports=(0, 5)),
        iq.StreamRequest("r", "TCP", local_session="s"),
        iq.StreamRequest("r", "TCP/MSRP", local_session="a b"),
        iq.StreamRequest("r", "TCP/MSRP", remote=iq.RemoteSpec("a", 1, (), "msrp://a b")),
    ],
)
def test_requests_outside_the_profile_are_not_built(request_: iq.StreamRequest) -> None:
    with pytest.raises(H248Error) as caught:
        iq.to_add(request_)
    assert caught.value.code == 449


def test_bodies_pass_over_what_they_do_not_use() -> None:
    body = read_body("v=0\no=- 1 1 IN IP4 h\ns=-\nt=0 0\nc=IN IP4 h\nb=AS:1\nm=message 5 TCP/MSRP *\na=mid:x\n\n")
    assert (body.address, body.port, body.fingerprints, body.setup) == ("h", 5, (), None)


@pytest.mark.parametrize("text", ["", "SHA-256", "SHA-256 zz", "SHA-256 A:B", "SHA-1 AB:CD", "x AB CD"])
def test_bad_fingerprints(text: str) -> None:
    with pytest.raises(H248Error):
        read_fingerprint(text)


def test_fingerprint_of_an_unknown_hash_is_read() -> None:
    assert read_fingerprint("NEW-9 ab:Cd") == ("new-9", b"\xab\xcd")


def test_every_code_makes_a_writable_answer() -> None:
    for code in CODES:
        answer = error_answer(H248Error(code, 'what "x" é', transaction_id=7), "gw")
        assert answer is not None
        assert parse(write(answer)) == answer
