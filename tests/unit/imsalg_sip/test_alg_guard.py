"""A bug in one call ends that call with 500; the engine goes on."""

from collections.abc import Sequence

from tests.playbook.alg_harness import AUDIO, UE, Book, request, settings

from imsalg.core.media_events import CallEnded, MediaCommand, MediaEvent, OfferIn
from imswire.sip.message import Request, Response


class Faulty:
    """A media half with a bug that shows in one call's offer."""

    def __init__(self) -> None:
        self.ended: list[str] = []

    def handle(self, event: MediaEvent, now: float) -> Sequence[MediaCommand]:
        if isinstance(event, OfferIn) and event.sip_call_id == "bad":
            raise ZeroDivisionError("a bug")
        if isinstance(event, CallEnded):
            self.ended.append(event.call)
        return ()

    def expire(self, now: float) -> Sequence[MediaCommand]:
        return ()

    def next_timer(self) -> float | None:
        return None


def test_a_bug_is_500_for_its_call_alone() -> None:
    media = Faulty()
    book = Book(settings(access={"allow_unregistered": True}), media)
    book.receive(UE, request(call_id="bad"), AUDIO)
    statuses = [message.status for message, _ in book.sent if isinstance(message, Response)]
    assert statuses == [100, 500]
    assert len(media.ended) == 1
    assert book.engine.stats.bugs == 1
    report = next(log for log in book.logs if log.event == "bug")
    assert report.fields["call_id"] == "bad"
    assert "test_alg_guard.py" in str(report.fields["at"])
    assert book.engine.gauges == {"calls": 0, "bindings": 0, "forwards": 0, "held": 0}

    book.sent.clear()
    book.receive(UE, request("MESSAGE", branch="m1", call_id="good"))
    assert [message.method for message, _ in book.sent if isinstance(message, Request)] == ["MESSAGE"]
