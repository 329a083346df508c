"""The four SIP transaction machines as data.

RFC 3261 17.1.1 (INVITE client), 17.1.2 (non-INVITE client), 17.2.1 (INVITE server) and 17.2.2 (non-INVITE server), the
INVITE ones as corrected by RFC 6026 (Accepted state, timers L and M). Three things are added, each from RFC 3261: the
proxy's timer C (16.6 step 11, 16.8), CANCEL that waits for a provisional response, and giving up 64*T1 after a CANCEL
that nothing answers (9.1).

A row says, for a state and an input, the next state, what is done, and which timers start or stop. Rows exist for every
pair; :func:`_ignore` writes those where nothing happens, so that "nothing" is a decision too.
"""

from enum import StrEnum

from msgspec import Struct


class State(StrEnum):
    """States of all four machines."""

    CALLING = "calling"
    TRYING = "trying"
    PROCEEDING = "proceeding"
    ACCEPTED = "accepted"
    COMPLETED = "completed"
    CONFIRMED = "confirmed"
    TERMINATED = "terminated"


class Event(StrEnum):
    """Inputs that are not timers. Responses: received by clients, given by the TU to servers."""

    REQUEST = "request"  # the request once more (server)
    ACK = "ack"
    PROVISIONAL = "1xx"
    SUCCESS = "2xx"
    FAILURE = "3xx-6xx"
    CANCEL = "cancel"  # the TU wants the INVITE cancelled (client)
    TRANSPORT_ERROR = "transport-error"


class Timer(StrEnum):
    """Timers by their letters (RFC 3261 appendix A, RFC 6026); X is the wait of 9.1 after a CANCEL."""

    A = "A"
    B = "B"
    C = "C"
    D = "D"
    E = "E"
    F = "F"
    G = "G"
    H = "H"
    I = "I"  # noqa: E741  the standard's letter
    J = "J"
    K = "K"
    L = "L"
    M = "M"
    X = "X"


class Action(StrEnum):
    """What the interpreter does; the same words for every machine."""

    SEND = "send"  # send the message of this input and keep it
    REPEAT = "repeat"  # send the kept message again
    PASS = "pass"  # give the message of this input to the TU
    ACK = "ack"  # send the ACK of a non-2xx response (17.1.1.3)
    HOLD_CANCEL = "hold-cancel"  # remember that a CANCEL is due after the first provisional response
    RELEASE_CANCEL = "release-cancel"  # send it if it is due
    CANCEL = "cancel"  # send a CANCEL now
    TIMEOUT = "timeout"  # tell the TU that nothing came
    FAIL = "fail"  # tell the TU that the transport failed


type Input = Event | Timer


class Row(Struct, frozen=True):
    """One transition."""

    next: State
    actions: tuple[Action, ...] = ()
    start: tuple[Timer, ...] = ()
    stop: tuple[Timer, ...] = ()


type Rows = dict[tuple[State, Input], Row]


class Table(Struct, frozen=True):
    """One machine. ``first`` is taken when the transaction is made; it leads to the initial state."""

    name: str
    client: bool
    states: tuple[State, ...]
    inputs: tuple[Input, ...]
    first: Row
    rows: Rows


def _ignore(state: State, *inputs: Input) -> Rows:
    return {(state, one): Row(state) for one in inputs}


_S, _E, _T, _A = State, Event, Timer, Action

_REFUSED = Row(_S.COMPLETED, (_A.ACK, _A.PASS), start=(_T.D,), stop=(_T.A, _T.B, _T.C, _T.X))
_ANSWERED = Row(_S.ACCEPTED, (_A.PASS,), start=(_T.M,), stop=(_T.A, _T.B, _T.C, _T.X))

INVITE_CLIENT = Table(
    "INVITE client",
    True,
    (_S.CALLING, _S.PROCEEDING, _S.ACCEPTED, _S.COMPLETED, _S.TERMINATED),
    (
        *(_E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.CANCEL, _E.TRANSPORT_ERROR),
        *(_T.A, _T.B, _T.C, _T.D, _T.M, _T.X),
    ),
    Row(_S.CALLING, (_A.SEND,), start=(_T.A, _T.B, _T.C)),
    {
        (_S.CALLING, _T.A): Row(_S.CALLING, (_A.REPEAT,), start=(_T.A,)),
        (_S.CALLING, _T.B): Row(_S.TERMINATED, (_A.TIMEOUT,)),
        (_S.CALLING, _T.C): Row(_S.CALLING, (_A.HOLD_CANCEL,)),
        (_S.CALLING, _E.CANCEL): Row(_S.CALLING, (_A.HOLD_CANCEL,)),
        (_S.CALLING, _E.PROVISIONAL): Row(
            _S.PROCEEDING, (_A.PASS, _A.RELEASE_CANCEL), start=(_T.C,), stop=(_T.A, _T.B)
        ),
        (_S.CALLING, _E.SUCCESS): _ANSWERED,
        (_S.CALLING, _E.FAILURE): _REFUSED,
        (_S.CALLING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.CALLING, _T.D, _T.M, _T.X),
        (_S.PROCEEDING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.PASS,), start=(_T.C,)),
        (_S.PROCEEDING, _E.SUCCESS): _ANSWERED,
        (_S.PROCEEDING, _E.FAILURE): _REFUSED,
        (_S.PROCEEDING, _E.CANCEL): Row(_S.PROCEEDING, (_A.CANCEL,)),
        (_S.PROCEEDING, _T.C): Row(_S.PROCEEDING, (_A.CANCEL,)),
        (_S.PROCEEDING, _T.X): Row(_S.TERMINATED, (_A.TIMEOUT,)),
        # RFC 3261 has no row for this: the connection over which the response was to come is gone.
        (_S.PROCEEDING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.PROCEEDING, _T.A, _T.B, _T.D, _T.M),
        (_S.ACCEPTED, _E.SUCCESS): Row(_S.ACCEPTED, (_A.PASS,)),
        (_S.ACCEPTED, _T.M): Row(_S.TERMINATED),
        **_ignore(_S.ACCEPTED, _E.PROVISIONAL, _E.FAILURE, _E.CANCEL, _E.TRANSPORT_ERROR),
        **_ignore(_S.ACCEPTED, _T.A, _T.B, _T.C, _T.D, _T.X),
        (_S.COMPLETED, _E.FAILURE): Row(_S.COMPLETED, (_A.ACK,)),
        (_S.COMPLETED, _T.D): Row(_S.TERMINATED),
        # The TU has its final response; that the ACK could not go is of no use to it.
        (_S.COMPLETED, _E.TRANSPORT_ERROR): Row(_S.TERMINATED),
        **_ignore(_S.COMPLETED, _E.PROVISIONAL, _E.SUCCESS, _E.CANCEL, _T.A, _T.B, _T.C, _T.M, _T.X),
        **_ignore(_S.TERMINATED, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.CANCEL, _E.TRANSPORT_ERROR),
        **_ignore(_S.TERMINATED, _T.A, _T.B, _T.C, _T.D, _T.M, _T.X),
    },
)

_FINAL_IN = Row(_S.COMPLETED, (_A.PASS,), start=(_T.K,), stop=(_T.E, _T.F))

NON_INVITE_CLIENT = Table(
    "non-INVITE client",
    True,
    (_S.TRYING, _S.PROCEEDING, _S.COMPLETED, _S.TERMINATED),
    (_E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR, _T.E, _T.F, _T.K),
    Row(_S.TRYING, (_A.SEND,), start=(_T.E, _T.F)),
    {
        (_S.TRYING, _T.E): Row(_S.TRYING, (_A.REPEAT,), start=(_T.E,)),
        (_S.TRYING, _T.F): Row(_S.TERMINATED, (_A.TIMEOUT,)),
        (_S.TRYING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.PASS,)),
        (_S.TRYING, _E.SUCCESS): _FINAL_IN,
        (_S.TRYING, _E.FAILURE): _FINAL_IN,
        (_S.TRYING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.TRYING, _T.K),
        (_S.PROCEEDING, _T.E): Row(_S.PROCEEDING, (_A.REPEAT,), start=(_T.E,)),
        (_S.PROCEEDING, _T.F): Row(_S.TERMINATED, (_A.TIMEOUT,)),
        (_S.PROCEEDING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.PASS,)),
        (_S.PROCEEDING, _E.SUCCESS): _FINAL_IN,
        (_S.PROCEEDING, _E.FAILURE): _FINAL_IN,
        (_S.PROCEEDING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.PROCEEDING, _T.K),
        (_S.COMPLETED, _T.K): Row(_S.TERMINATED),
        **_ignore(_S.COMPLETED, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR, _T.E, _T.F),
        **_ignore(_S.TERMINATED, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR, _T.E, _T.F, _T.K),
    },
)

INVITE_SERVER = Table(
    "INVITE server",
    False,
    (_S.PROCEEDING, _S.ACCEPTED, _S.COMPLETED, _S.CONFIRMED, _S.TERMINATED),
    (
        *(_E.REQUEST, _E.ACK, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR),
        *(_T.G, _T.H, _T.I, _T.L),
    ),
    Row(_S.PROCEEDING, (_A.PASS,)),
    {
        (_S.PROCEEDING, _E.REQUEST): Row(_S.PROCEEDING, (_A.REPEAT,)),
        (_S.PROCEEDING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _E.SUCCESS): Row(_S.ACCEPTED, (_A.SEND,), start=(_T.L,)),
        (_S.PROCEEDING, _E.FAILURE): Row(_S.COMPLETED, (_A.SEND,), start=(_T.G, _T.H)),
        (_S.PROCEEDING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.PROCEEDING, _E.ACK, _T.G, _T.H, _T.I, _T.L),
        (_S.ACCEPTED, _E.ACK): Row(_S.ACCEPTED, (_A.PASS,)),
        (_S.ACCEPTED, _E.SUCCESS): Row(_S.ACCEPTED, (_A.SEND,)),
        (_S.ACCEPTED, _E.TRANSPORT_ERROR): Row(_S.ACCEPTED, (_A.FAIL,)),
        (_S.ACCEPTED, _T.L): Row(_S.TERMINATED),
        **_ignore(_S.ACCEPTED, _E.REQUEST, _E.PROVISIONAL, _E.FAILURE, _T.G, _T.H, _T.I),
        (_S.COMPLETED, _E.REQUEST): Row(_S.COMPLETED, (_A.REPEAT,)),
        (_S.COMPLETED, _E.ACK): Row(_S.CONFIRMED, start=(_T.I,), stop=(_T.G, _T.H)),
        (_S.COMPLETED, _T.G): Row(_S.COMPLETED, (_A.REPEAT,), start=(_T.G,)),
        (_S.COMPLETED, _T.H): Row(_S.TERMINATED, (_A.TIMEOUT,)),
        (_S.COMPLETED, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.COMPLETED, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _T.I, _T.L),
        (_S.CONFIRMED, _T.I): Row(_S.TERMINATED),
        **_ignore(_S.CONFIRMED, _E.REQUEST, _E.ACK, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR),
        **_ignore(_S.CONFIRMED, _T.G, _T.H, _T.L),
        **_ignore(_S.TERMINATED, _E.REQUEST, _E.ACK, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR),
        **_ignore(_S.TERMINATED, _T.G, _T.H, _T.I, _T.L),
    },
)

_FINAL_OUT = Row(_S.COMPLETED, (_A.SEND,), start=(_T.J,))

NON_INVITE_SERVER = Table(
    "non-INVITE server",
    False,
    (_S.TRYING, _S.PROCEEDING, _S.COMPLETED, _S.TERMINATED),
    (_E.REQUEST, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR, _T.J),
    Row(_S.TRYING, (_A.PASS,)),
    {
        (_S.TRYING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.TRYING, _E.SUCCESS): _FINAL_OUT,
        (_S.TRYING, _E.FAILURE): _FINAL_OUT,
        (_S.TRYING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.TRYING, _E.REQUEST, _T.J),
        (_S.PROCEEDING, _E.REQUEST): Row(_S.PROCEEDING, (_A.REPEAT,)),
        (_S.PROCEEDING, _E.PROVISIONAL): Row(_S.PROCEEDING, (_A.SEND,)),
        (_S.PROCEEDING, _E.SUCCESS): _FINAL_OUT,
        (_S.PROCEEDING, _E.FAILURE): _FINAL_OUT,
        (_S.PROCEEDING, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        **_ignore(_S.PROCEEDING, _T.J),
        (_S.COMPLETED, _E.REQUEST): Row(_S.COMPLETED, (_A.REPEAT,)),
        (_S.COMPLETED, _E.TRANSPORT_ERROR): Row(_S.TERMINATED, (_A.FAIL,)),
        (_S.COMPLETED, _T.J): Row(_S.TERMINATED),
        **_ignore(_S.COMPLETED, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE),
        **_ignore(_S.TERMINATED, _E.REQUEST, _E.PROVISIONAL, _E.SUCCESS, _E.FAILURE, _E.TRANSPORT_ERROR, _T.J),
    },
)

TABLES: tuple[Table, ...] = (INVITE_CLIENT, NON_INVITE_CLIENT, INVITE_SERVER, NON_INVITE_SERVER)
