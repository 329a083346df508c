"""Messages of the Iq profile made by its builders (both flows and everything around them), and general ones of B.2.

``PROFILE`` is shown in docs/iq-profile.md and, with ``GENERAL``, goes through Erlang's megaco in the interop tests.
"""

from imswire.h248 import iq
from imswire.h248.errors import H248Error, error
from imswire.h248.iq_inspect import TlsState, audit_media, tls_properties
from imswire.h248.model import (
    ALL_CONTEXTS,
    CHOOSE_CONTEXT,
    NULL_CONTEXT,
    Action,
    Audit,
    Command,
    Event,
    Events,
    LocalControl,
    Media,
    Message,
    ObservedEvents,
    Parameter,
    ServiceChange,
    Signal,
    Signals,
    Stream,
    TerminationState,
    Transaction,
    TransactionAck,
    TransactionPending,
    TransactionReply,
    TransactionRequest,
    Unknown,
)

ALG = "[192.0.2.1]:2944"
AGW = "<agw-1.example.net>:2944"
UE_FINGERPRINT = ("sha-256", bytes(range(0x10, 0x30)))
AGW_FINGERPRINT = ("sha-256", bytes(range(0xC0, 0xE0)))
OTHER_FINGERPRINT = ("sha-256", bytes(range(0x60, 0x80)))


def request(mid: str, tid: int, *actions: Action) -> Message:
    return Message(mid, (TransactionRequest(tid, actions),))


def reply(mid: str, tid: int, *actions: Action) -> Message:
    return Message(mid, (TransactionReply(tid, actions),))


# --- originating, TR 29.828 5.2.1.2.2 ---

ORIGINATING_CORE = iq.StreamRequest(realm="core", proto="TCP", setup="actpass", ignore_syn=True)
ORIGINATING_ACCESS = iq.StreamRequest(
    realm="access",
    proto="TCP/TLS",
    setup="actpass",
    fingerprint_hash="sha-256",
    remote=iq.RemoteSpec("203.0.113.5", 7394, (UE_FINGERPRINT,)),
    inactivity=300,
)
ORIGINATING_CORE_CHANGE = iq.StreamChange(
    proto="TCP",
    remote=iq.RemoteSpec("198.51.100.7", 8201),
    setup="passive",
    ignore_syn=False,
    source_filter="address",
)
ORIGINATING_ACCESS_CHANGE = iq.StreamChange(proto="TCP/TLS", setup="active", start_tls=True)

# --- terminating, TR 29.828 5.2.1.2.3 ---

TERMINATING_ACCESS = iq.StreamRequest(
    realm="access",
    proto="TCP/TLS",
    setup="actpass",
    ignore_syn=True,
    fingerprint_hash="sha-256",
    inactivity=300,
)
TERMINATING_CORE = iq.StreamRequest(
    realm="core", proto="TCP", setup="active", remote=iq.RemoteSpec("198.51.100.7", 8201)
)
TERMINATING_ACCESS_CHANGE = iq.StreamChange(
    proto="TCP/TLS",
    remote=iq.RemoteSpec("203.0.113.9", 9, (UE_FINGERPRINT,)),
    setup="passive",
    ignore_syn=False,
    source_filter="address",
)
TERMINATING_CORE_CHANGE = iq.StreamChange(proto="TCP", setup="active")

# --- the same flow where messages are rewritten: nothing of the answerer's path is known before the answer ---

AWARE_CORE = iq.StreamRequest(realm="core", proto="TCP/MSRP", setup="actpass", local_session="ue-a-77")
AWARE_ACCESS = iq.StreamRequest(
    realm="access",
    proto="TCP/TLS/MSRP",
    setup="actpass",
    fingerprint_hash="sha-256",
    remote=iq.RemoteSpec("203.0.113.5", 7394, (UE_FINGERPRINT,), "msrps://203.0.113.5:7394/ue-a-77;tcp"),
)
AWARE_CORE_CHANGE = iq.StreamChange(
    proto="TCP/MSRP",
    remote=iq.RemoteSpec("198.51.100.7", 8201, (), "msrp://peer.example.net:8201/b-42;tcp"),
    setup="passive",
    source_filter="address",
)
AWARE_ACCESS_CHANGE = iq.StreamChange(proto="TCP/TLS/MSRP", setup="active", start_tls=True, local_session="b-42")

# --- BFCP, 5.2.1.3: the SDP offerer is TLS client whoever connects ---

BFCP_CORE = iq.StreamRequest(realm="core", proto="TCP")
BFCP_ACCESS_SERVER = iq.StreamRequest(
    realm="access",
    proto="TCP/TLS",
    tls_role="server",
    fingerprint_hash="sha-256",
    remote=iq.RemoteSpec("203.0.113.5", 7396, (UE_FINGERPRINT,)),
)
BFCP_ACCESS_CLIENT = iq.StreamRequest(
    realm="access", proto="TCP/TLS", tls_role="client", start_tls=True, fingerprint_hash="sha-256"
)
BFCP_CORE_KNOWN = iq.StreamRequest(realm="core", proto="TCP", remote=iq.RemoteSpec("198.51.100.7", 8203))

# --- a re-offer with another end, and whom to let in ---

FURTHER = iq.StreamRequest(
    realm="core",
    proto="TCP",
    local_address="192.0.2.20",
    local_port=20002,
    setup="passive",
    source_filter="address",
    remote=iq.RemoteSpec("198.51.100.8", 8204),
    notify=False,
    mode="Inactive",
)
CONFIRMED = iq.StreamChange(proto="TCP", mode="SendReceive", notify=True)

RECONNECT_CORE = iq.StreamChange(proto="TCP", setup="passive", reconnect=True)
RECONNECT_ACCESS = iq.StreamChange(
    proto="TCP/TLS", remote=iq.RemoteSpec("203.0.113.6", 7400, (OTHER_FINGERPRINT,)), setup="active", start_tls=True
)
FILTERED = iq.StreamChange(
    proto="TCP/TLS",
    source_filter="address-and-port",
    source_mask="203.0.113.0/24",
    source_ports=(50_000, 50_099),
)
LATCHED = iq.StreamChange(proto="TCP/TLS", source_filter="off", latch=True)

MISMATCH = iq.MediaFailure(
    "fingerprint-mismatch",
    "certificate of CN=ue.example.net is not the announced one",
    iq.fingerprint_text(UE_FINGERPRINT),
    iq.fingerprint_text(OTHER_FINGERPRINT),
)


SEEN = Media(
    (
        Stream(
            1,
            LocalControl(
                properties=tls_properties(TlsState("verified", "TLSv1.3", "TLS_AES_128_GCM_SHA256", "sha-256"))
            ),
        ),
    )
)


def notify(tid: int, failure: iq.MediaFailure) -> Message:
    return request(AGW, tid, Action(1, (iq.to_notify("T1", failure, 1, "20261121T10304550"),)))


def statistics(termination: str, sent: int, received: int) -> Command:
    return iq.subtract_reply(termination, iq.Statistics(sent, received, 61_250))


CHANGE = iq.ServiceChangeRequest("Restart", 901, None, 1, "imsalg_iq/1")

PROFILE: dict[str, Message] = {
    "Originating: Add request (steps 2 and 5)": request(ALG, 101, iq.add_pair(ORIGINATING_CORE, ORIGINATING_ACCESS)),
    "Originating: Add reply (steps 4 and 7)": reply(
        AGW,
        101,
        Action(
            1,
            (
                iq.add_reply(iq.AddResult("T2", "192.0.2.20", 20002), ORIGINATING_CORE),
                iq.add_reply(iq.AddResult("T1", "192.0.2.10", 20000, AGW_FINGERPRINT), ORIGINATING_ACCESS),
            ),
        ),
    ),
    "Originating: Modify request (steps 13 and 16)": request(
        ALG,
        102,
        Action(1, (iq.to_modify("T2", ORIGINATING_CORE_CHANGE), iq.to_modify("T1", ORIGINATING_ACCESS_CHANGE))),
    ),
    "Originating: Modify reply (steps 15 and 18)": reply(
        AGW, 102, Action(1, (iq.modify_reply("T2"), iq.modify_reply("T1")))
    ),
    "Terminating: Add request (steps 2 and 5)": request(ALG, 201, iq.add_pair(TERMINATING_ACCESS, TERMINATING_CORE)),
    "Terminating: Add reply (steps 4 and 7)": reply(
        AGW,
        201,
        Action(
            2,
            (
                iq.add_reply(iq.AddResult("T1", "192.0.2.10", 20004, AGW_FINGERPRINT), TERMINATING_ACCESS),
                iq.add_reply(iq.AddResult("T2", "192.0.2.20", 20006), TERMINATING_CORE),
            ),
        ),
    ),
    "Terminating: Modify request (step 14)": request(
        ALG,
        202,
        Action(2, (iq.to_modify("T1", TERMINATING_ACCESS_CHANGE), iq.to_modify("T2", TERMINATING_CORE_CHANGE))),
    ),
    "Terminating: Modify reply (step 16)": reply(AGW, 202, Action(2, (iq.modify_reply("T1"), iq.modify_reply("T2")))),
    "Application-aware: Add request": request(ALG, 111, iq.add_pair(AWARE_CORE, AWARE_ACCESS)),
    "Application-aware: Add reply": reply(
        AGW,
        111,
        Action(
            3,
            (
                iq.add_reply(iq.AddResult("T2", "192.0.2.20", 20010), AWARE_CORE),
                iq.add_reply(iq.AddResult("T1", "192.0.2.10", 20012, AGW_FINGERPRINT), AWARE_ACCESS),
            ),
        ),
    ),
    "Application-aware: Modify request": request(
        ALG, 112, Action(3, (iq.to_modify("T2", AWARE_CORE_CHANGE), iq.to_modify("T1", AWARE_ACCESS_CHANGE)))
    ),
    "BFCP, originating: Add request": request(ALG, 121, iq.add_pair(BFCP_CORE, BFCP_ACCESS_SERVER)),
    "BFCP, terminating: Add request": request(ALG, 221, iq.add_pair(BFCP_ACCESS_CLIENT, BFCP_CORE_KNOWN)),
    "A further answer of a forked call: Add request": request(ALG, 116, Action(1, (iq.to_add(FURTHER),))),
    "A further answer is confirmed: Modify and Subtract request": request(
        ALG, 117, Action(1, (iq.to_modify("T3", CONFIRMED), iq.to_subtract("T2")))
    ),
    "Re-offer with a new connection: Modify request": request(
        ALG, 113, Action(1, (iq.to_modify("T2", RECONNECT_CORE), iq.to_modify("T1", RECONNECT_ACCESS)))
    ),
    "Source filter by network and ports: Modify request": request(ALG, 114, Action(1, (iq.to_modify("T1", FILTERED),))),
    "Remote address to be learned: Modify request": request(ALG, 115, Action(1, (iq.to_modify("T1", LATCHED),))),
    "Subtract request, with statistics": request(ALG, 103, Action(1, (iq.to_subtract("T2"), iq.to_subtract("T1")))),
    "Subtract reply, with statistics": reply(
        AGW, 103, Action(1, (statistics("T2", 52_428_800, 1_200), statistics("T1", 1_200, 52_431_022)))
    ),
    "Subtract request, a whole context": request(ALG, 203, iq.subtract_context(2)),
    "Subtract reply, a whole context": reply(AGW, 203, Action(2, (iq.subtract_reply("*"),))),
    "Notify: fingerprint mismatch": notify(9001, MISMATCH),
    "Notify: TCP connection failed": notify(9002, iq.MediaFailure("tcp-failed", "203.0.113.5:7394 refused")),
    "Notify: TLS session failed": notify(9003, iq.MediaFailure("tls-failed", "no certificate")),
    "Notify: remote end closed": notify(9004, iq.MediaFailure("remote-closed")),
    "Notify: inactive": notify(9005, iq.MediaFailure("inactive", "300 s without media")),
    "Notify reply": reply(ALG, 9001, Action(1, (iq.notify_reply("T1"),))),
    "ServiceChange: an AGW starts": request(AGW, 9000, iq.registration()),
    "ServiceChange reply": reply(ALG, 9000, iq.service_change_reply(CHANGE)),
    "ServiceChange: an AGW is back": request(AGW, 9010, iq.registration(900, "Disconnected")),
    "ServiceChange: an AGW drains": request(
        AGW, 9011, iq.to_service_change(iq.ServiceChangeRequest("Graceful", 905, 30))
    ),
    "ServiceChange: an AGW stays after all": request(
        AGW, 9012, iq.to_service_change(iq.ServiceChangeRequest("Restart", 918))
    ),
    "Audit: alive?": request(ALG, 301, iq.audit_alive()),
    "Audit reply: alive": reply(AGW, 301, Action(NULL_CONTEXT, (Command("AuditValue", "ROOT"),))),
    "Audit: every context": request(ALG, 304, iq.audit_contexts()),
    "Audit reply: every context": reply(AGW, 304, *iq.audit_contexts_reply([1, 2, 7])),
    "Audit reply: no context": reply(AGW, 305, *iq.audit_contexts_reply([])),
    "Audit: these contexts": request(ALG, 306, *iq.audit_these([1, 2])),
    "Audit reply: these contexts": reply(
        AGW, 306, *(Action(context, (Command("AuditValue", "*"),)) for context in (1, 2))
    ),
    "Audit: the media of a context": request(ALG, 307, *audit_media([1])),
    "Audit reply: the media of a context": reply(
        AGW, 307, Action(1, (Command("AuditValue", "T1", media=SEEN), Command("AuditValue", "T2")))
    ),
    "Audit: every termination": request(ALG, 302, iq.audit_all()),
    "Audit reply: every termination": reply(AGW, 302, *iq.audit_reply([(1, ["T2", "T1"]), (2, ["T1", "T2"])])),
    "Audit reply: nothing there": reply(AGW, 303, *iq.audit_reply([])),
    "Error: out of ports": reply(
        AGW, 104, Action(CHOOSE_CONTEXT, (Command("Add", "$", error=error(510, "no port in realm access")),))
    ),
    "Error: unknown termination": reply(AGW, 105, Action(1, (Command("Modify", "T9", error=error(430)),))),
    "Error: unknown context": reply(AGW, 106, Action(77, (), error=error(411))),
    "Error: a transaction that does not parse": Message(
        AGW, (TransactionReply(107, error=H248Error(442, "a descriptor expected").descriptor()),)
    ),
    "Error: a message that does not parse": Message(AGW, error=error(400)),
    "Pending": Message(AGW, (TransactionPending(101),)),
    "Reply that asks for confirmation": Message(
        AGW, (TransactionReply(108, (Action(1, (iq.modify_reply("T1"),)),), immediate_ack=True),)
    ),
    "Confirmation": Message(ALG, (TransactionAck(((101, 103), (108, 108))),)),
}
"""Title to message, in the order of the page."""

IPV6_ACCESS = iq.StreamRequest(
    realm="access", proto="TCP/TLS", family="IP6", fingerprint_hash="sha-256", source_filter="address-and-port"
)
IPV6_CORE = iq.StreamRequest(
    realm="core",
    proto="TCP",
    family="IP6",
    local_address="2001:db8::20",
    local_port=20010,
    remote=iq.RemoteSpec("2001:db8::7", 8201),
    notify=False,
    tcp_mode="merge",
)

EXTRA: dict[str, Message] = {
    "two lines in one offer, application-agnostic, IPv6": request(
        "[2001:db8::1]:2944", 401, iq.add_pair(IPV6_ACCESS, IPV6_CORE), iq.add_pair(IPV6_CORE, IPV6_ACCESS)
    ),
    "several transactions in one message": Message(
        ALG,
        (
            TransactionAck(((1, 2),)),
            TransactionRequest(3, (iq.audit_alive(),)),
            TransactionRequest(4, (iq.audit_packages(),)),
        ),
    ),
    "packages": reply(
        AGW, 4, Action(NULL_CONTEXT, (Command("AuditValue", "ROOT", packages=("g-1", "root-1", "tcpbcc-1")),))
    ),
    "events and signals cleared": request(
        ALG, 402, Action(5, (Command("Modify", "T1", events=Events(), signals=Signals()),))
    ),
}


def _general() -> dict[str, Transaction]:
    control = LocalControl(
        "Inactive", True, False, (Parameter("a/b", ("x", "y")), Parameter("a/c", ("1", "5"), listing="range"))
    )
    alternatives = LocalControl("ReceiveOnly", properties=(Parameter("a/d", ("p", "q"), listing="or"),))
    streams = Media(
        (
            Stream(1, control, "v=0\r\nc=IN IP4 $\r\nm=audio $ RTP/AVP 8"),
            Stream(2, alternatives, remote="v=0\nc=IN IP4 192.0.2.7\nm=audio 6000 RTP/AVP 8"),
        ),
        TerminationState("InService", "LockStep", (Parameter("root/normalMGExecutionTime", "200"),)),
    )
    implicit = Media((Stream(1, LocalControl("SendOnly")),), implicit_stream=True)
    events = Events(
        7,
        (
            Event("al/of", (Parameter("strict", "state"), Parameter("KeepActive")), 2),
            Event("dd/ce", (Parameter("DigitMap", "dialplan"),)),
        ),
    )
    signals = Signals(
        (
            Signal(
                "cg/dt",
                (
                    Parameter("SignalType", "TimeOut"),
                    Parameter("Duration", "30"),
                    Parameter("NotifyCompletion", ("TimeOut", "IntByEvent"), listing="or"),
                ),
                1,
            ),
        )
    )
    return {
        "everything in an Add": TransactionRequest(
            1,
            (
                Action(
                    CHOOSE_CONTEXT,
                    (Command("Add", "A4444", media=streams, events=events, signals=signals, optional=True),),
                    priority=3,
                    emergency=True,
                ),
            ),
        ),
        "a brace in SDP": TransactionRequest(
            10, (Action(3, (Command("Add", "$", media=Media((Stream(1, local="v=0\r\na=x:{}"),))),)),)
        ),
        "names that look like descriptors": TransactionRequest(
            2,
            (
                Action(5, (Command("Modify", "L", media=implicit), Command("Move", "R", media=implicit))),
                Action(ALL_CONTEXTS, (Command("Subtract", "*", wildcard=True, optional=True),)),
            ),
        ),
        "embedded events and a signal list": TransactionRequest(
            3,
            (
                Action(
                    NULL_CONTEXT,
                    (
                        Command(
                            "Modify",
                            "A4444",
                            events=Events(9, (Event("al/on", (Parameter("Embed", body="Signals { cg/rt }"),)),)),
                            signals=Signals((), (Unknown("SignalList", "= 5 { cg/rt , cg/bt }"),)),
                        ),
                    ),
                ),
            ),
        ),
        "other descriptors": TransactionRequest(
            4,
            (
                Action(
                    3,
                    (
                        Command(
                            "Add",
                            "A1",
                            unknown=(
                                Unknown("Modem", "[ V18 ] { a/b = 1 }"),
                                Unknown("Mux", "= H221 { T1 , T2 }"),
                                Unknown("DigitMap", "= d1 { ( 0 | 1x.S ) }"),
                                Unknown("EventBuffer", ""),
                            ),
                        ),
                    ),
                    unknown=(Unknown("Topology", "{ T1 , T2 , Oneway }"),),
                ),
            ),
        ),
        "context audit": TransactionRequest(
            5, (Action(6, audit_context=True, context_audit=("Topology", "Emergency", "Priority")),)
        ),
        "capabilities": TransactionRequest(
            6, (Action(NULL_CONTEXT, (Command("AuditCapability", "*", audit=Audit(("Media", "Packages"))),)),)
        ),
        "audit reply with bare names": TransactionReply(
            7,
            (
                Action(
                    6,
                    (
                        Command("AuditValue", "T1", media=implicit, audit=Audit(("Signals", "Mux"))),
                        Command("AuditValue", "*", terminations=("T1", "T2")),
                    ),
                    priority=1,
                ),
            ),
        ),
        "observed with time": TransactionRequest(
            8,
            (
                Action(
                    6,
                    (
                        Command(
                            "Notify",
                            "T1",
                            observed=ObservedEvents(
                                0xFFFFFFFE,
                                (Event("al/of", (Parameter("init", "off"),), 1, "20261121T10304550"), Event("al/on")),
                            ),
                        ),
                    ),
                ),
            ),
        ),
        "hand-over": TransactionRequest(
            9,
            (
                Action(
                    NULL_CONTEXT,
                    (
                        Command(
                            "ServiceChange",
                            "ROOT",
                            service_change=ServiceChange(
                                "Handoff",
                                "903 MGC Directed Change",
                                0,
                                "[2001:db8::5]:2944",
                                "ResGW/1",
                                2,
                                timestamp="20261121T10304550",
                            ),
                        ),
                    ),
                ),
            ),
        ),
    }


GENERAL: dict[str, Message] = {title: Message("mg1", (made,)) for title, made in _general().items()}
MESSAGES: dict[str, Message] = {**PROFILE, **EXTRA, **GENERAL}
