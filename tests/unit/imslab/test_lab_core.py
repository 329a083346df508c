"""The lab core as a pure machine: registrar and forking proxy, no socket and no clock."""

from collections.abc import Sequence

import pytest

from imskit.clock import SeededIds
from imslab.core.machine import CoreMachine, best_response
from imslab.core.settings import CoreSettings
from imslab.sipnode import Command, Received, SendMessage
from imswire.sip.auth import DigestClient
from imswire.sip.flow import Flow
from imswire.sip.message import Request, Response
from imswire.sip.parser import parse

LOCAL = ("127.0.0.1", 5070)
EDGE = Flow("udp", "core", LOCAL, ("127.0.0.1", 5062))


def request(method: str, uri: str, *lines: str, branch: str = "z9hG4bK1", cseq: int = 1, to: str = "") -> Request:
    text = "\r\n".join(
        (
            f"{method} {uri} SIP/2.0",
            f"Via: SIP/2.0/UDP 127.0.0.1:5062;branch={branch}",
            "From: <sip:alice@lab.example>;tag=a",
            f"To: {to or '<sip:bob@lab.example>'}",
            "Call-ID: call-1",
            f"CSeq: {cseq} {method}",
            *(() if any(line.startswith("Max-Forwards") for line in lines) else ("Max-Forwards: 70",)),
            *lines,
            "Content-Length: 0",
            "",
            "",
        )
    )
    message = parse(text.encode())
    assert isinstance(message, Request)
    return message


class Bench:
    """The machine with its outgoing messages at hand."""

    def __init__(self, **settings: object) -> None:
        self.machine = CoreMachine(CoreSettings(**settings), SeededIds())  # type: ignore[arg-type]
        self.machine.listening({"udp": LOCAL, "tcp": LOCAL})
        self.now = 0.0

    def give(self, message: Request | Response) -> list[Request | Response]:
        return sent(self.machine.handle(Received(message, EDGE), self.now))

    def register(self, contact: str, *lines: str, call_id: str = "reg", cseq: int = 1) -> Response:
        message = request(
            "REGISTER", "sip:lab.example", f"Contact: {contact}", *lines, branch=f"z9hG4bK{call_id}{cseq}", cseq=cseq
        )
        message.headers.set("Call-ID", call_id)
        (answer,) = self.give(message)
        assert isinstance(answer, Response)
        return answer


def sent(commands: Sequence[Command]) -> list[Request | Response]:
    return [command.message for command in commands if isinstance(command, SendMessage)]


def requests(messages: list[Request | Response], method: str) -> list[Request]:
    return [m for m in messages if isinstance(m, Request) and m.method == method]


def statuses(messages: list[Request | Response]) -> list[int]:
    return [m.status for m in messages if isinstance(m, Response)]


PATH = "Path: <sip:token@127.0.0.1:5062;lr>"


def test_registration_keeps_path_and_grants_a_service_route() -> None:
    bench = Bench(authenticate=False)
    answer = bench.register("<sip:bob@10.0.0.1:5060>;expires=60", PATH, "Supported: path")
    assert answer.status == 200
    assert answer.headers.get("path") == "<sip:token@127.0.0.1:5062;lr>"
    assert answer.headers.get("service-route") == "<sip:orig@127.0.0.1:5070;lr>"
    assert answer.headers.get("p-associated-uri") == "<sip:bob@lab.example>"
    assert answer.contacts[0].param("expires") == "60"
    bench.now = 61.0
    assert bench.machine.registrar.bindings("bob", bench.now) == []


@pytest.mark.parametrize("algorithms", [("MD5",), ("SHA-256",), ("SHA-256", "MD5")])
def test_digest_challenge_and_a_used_nonce(algorithms: tuple[str, ...]) -> None:
    bench = Bench(users={"bob": "secret"}, algorithms=algorithms)
    challenge = bench.register("<sip:bob@10.0.0.1>")
    assert challenge.status == 401
    assert len(challenge.headers.get_all("www-authenticate")) == len(algorithms)
    client = DigestClient("bob", "secret", lambda: "cnonce")
    assert client.learn(challenge.headers.get_all("www-authenticate"))
    credentials = f"Authorization: {client.authorize('REGISTER', 'sip:lab.example')}"
    assert bench.register("<sip:bob@10.0.0.1>", credentials, cseq=2).status == 200
    replayed = bench.register("<sip:bob@10.0.0.1>", credentials, cseq=3)
    assert replayed.status == 401
    assert "stale=true" in (replayed.headers.get("www-authenticate") or "")
    again = f"Authorization: {client.authorize('REGISTER', 'sip:lab.example')}"
    assert bench.register("<sip:bob@10.0.0.1>", again, cseq=4).status == 200
    wrong = DigestClient("bob", "guess", lambda: "cnonce")
    wrong.learn(challenge.headers.get_all("www-authenticate"))
    guess = f"Authorization: {wrong.authorize('REGISTER', 'sip:lab.example')}"
    assert bench.register("<sip:bob@10.0.0.1>", guess, cseq=5).status == 403


def test_contact_star_and_cseq_out_of_order() -> None:
    bench = Bench(authenticate=False)
    assert bench.register("<sip:bob@10.0.0.1>", cseq=5).status == 200
    assert bench.register("<sip:bob@10.0.0.1>", cseq=4).status == 400
    assert bench.register("*", "Expires: 0", cseq=6).status == 200
    assert bench.machine.registrar.bindings("bob", 0.0) == []


def test_a_call_follows_the_path_and_drops_its_own_route() -> None:
    bench = Bench(authenticate=False)
    bench.register("<sip:bob@10.0.0.1:5060>", PATH)
    out = bench.give(request("INVITE", "sip:bob@lab.example", "Route: <sip:orig@127.0.0.1:5070;lr>"))
    assert statuses(out) == [100]
    (invite,) = requests(out, "INVITE")
    assert invite.uri == "sip:bob@10.0.0.1:5060"
    assert invite.headers.values("route") == ["<sip:token@127.0.0.1:5062;lr>"]
    assert invite.headers.values("record-route") == ["<sip:127.0.0.1:5070;transport=udp;lr>"]
    assert invite.headers.get("p-called-party-id") == "<sip:bob@lab.example>"
    assert invite.max_forwards == 69


@pytest.mark.parametrize(
    ("uri", "lines", "status"),
    [
        ("sip:bob@lab.example", (), 480),
        ("sip:carol@lab.example", (), 404),
        ("sip:bob@lab.example", ("Max-Forwards: 0",), 483),
        ("sip:bob@elsewhere.example", (), 502),
        ("sip:bob@lab.example", ("Route: <http://nowhere>",), 400),
    ],
)
def test_requests_that_cannot_be_routed(uri: str, lines: tuple[str, ...], status: int) -> None:
    bench = Bench(users={"bob": "x"})
    out = bench.give(request("OPTIONS", uri, *lines))
    assert statuses(out) == [status]


def fork(bench: Bench) -> tuple[Request, Request]:
    bench.register("<sip:bob@10.0.0.1>", PATH, call_id="one")
    bench.register("<sip:bob@10.0.0.2>", PATH, call_id="two")
    one, two = requests(bench.give(request("INVITE", "sip:bob@lab.example")), "INVITE")
    assert {one.uri, two.uri} == {"sip:bob@10.0.0.1", "sip:bob@10.0.0.2"}
    return one, two


def test_the_first_answer_wins_and_the_other_branch_is_cancelled() -> None:
    bench = Bench(authenticate=False)
    one, two = fork(bench)
    for branch in (one, two):
        assert statuses(bench.give(branch.reply(180, to_tag="x"))) == [180]
    out = bench.give(two.reply(200, to_tag="two"))
    assert statuses(out) == [200]
    (cancel,) = requests(out, "CANCEL")
    assert cancel.uri == one.uri
    out = bench.give(one.reply(487, to_tag="one"))
    assert statuses(out) == []
    assert [m.method for m in requests(out, "ACK")] == ["ACK"]


def test_all_refuse_and_the_best_refusal_goes_back() -> None:
    bench = Bench(authenticate=False)
    one, two = fork(bench)
    assert statuses(bench.give(one.reply(503, to_tag="one"))) == []
    assert statuses(bench.give(two.reply(486, to_tag="two"))) == [486]


def test_a_600_ends_the_other_branches() -> None:
    bench = Bench(authenticate=False)
    one, two = fork(bench)
    bench.give(one.reply(180, to_tag="one"))
    out = bench.give(two.reply(603, to_tag="two"))
    assert [m.uri for m in requests(out, "CANCEL")] == [one.uri]
    assert statuses(bench.give(one.reply(487, to_tag="one"))) == [603]


def test_cancel_goes_to_every_branch() -> None:
    bench = Bench(authenticate=False)
    one, two = fork(bench)
    for branch in (one, two):
        bench.give(branch.reply(180, to_tag="x"))
    out = bench.give(request("CANCEL", "sip:bob@lab.example"))
    assert statuses(out) == [200]
    assert {m.uri for m in requests(out, "CANCEL")} == {one.uri, two.uri}
    bench.give(one.reply(487, to_tag="one"))
    assert statuses(bench.give(two.reply(487, to_tag="two"))) == [487]


def test_silent_contact_times_out_with_408() -> None:
    bench = Bench(authenticate=False)
    bench.register("<sip:bob@10.0.0.1>", PATH)
    bench.give(request("INVITE", "sip:bob@lab.example"))
    seen: list[int] = []
    for _ in range(100):
        due = bench.machine.next_timer()
        if due is None or seen:
            break
        bench.now = due
        seen += statuses(sent(bench.machine.expire(due)))
    assert seen == [408]
    assert bench.now <= 32.5


def test_ack_and_bye_follow_the_route_set() -> None:
    bench = Bench(authenticate=False)
    routes = "Route: <sip:127.0.0.1:5070;transport=udp;lr>, <sip:token@127.0.0.1:5062;lr>"
    (ack,) = bench.give(request("ACK", "sip:bob@10.0.0.1", routes, branch="z9hG4bKack"))
    assert isinstance(ack, Request)
    assert ack.headers.values("route") == ["<sip:token@127.0.0.1:5062;lr>"]
    out = bench.give(request("BYE", "sip:bob@10.0.0.1", routes, branch="z9hG4bKbye", cseq=2))
    (bye,) = requests(out, "BYE")
    assert statuses(bench.give(bye.reply(200, to_tag="b"))) == [200]


def test_best_response_prefers_600_then_the_lowest_class_and_487_last() -> None:
    source = request("INVITE", "sip:bob@lab.example")
    for given, best in (((503, 404), 404), ((487, 486), 486), ((404, 603, 302), 603), ((302, 404), 302), ((487,), 487)):
        assert best_response([source.reply(status, to_tag="t") for status in given]).status == best
