"""A listening socket and the legs that take connections from it.

Usually that is one leg. Where an offer was answered in several dialogs, each of them has a leg at the same port; then
connections are told apart by where they come from.
"""

import asyncio
import contextlib
import errno
import socket
from collections.abc import Callable

from agw.core import orders
from agw.core.orders import Report
from agw.shell import sockets, synfilter
from agw.shell.doorbell import Doorbell
from agw.shell.legs import Counters, Door, LegState
from imskit.logs import get_logger

log = get_logger("agw.doors")

_NOBODY = (orders.CLOSED,)
_ACCEPT_AGAIN = 0.25  # seconds, when out of descriptors


class Doors:
    """Listens for legs. ``adopt`` gives a connection to its leg; ``report`` takes the reports."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        legs: dict[int, LegState],
        counters: Counters,
        adopt: Callable[[LegState, socket.socket], None],
        report: Callable[[Report], None],
    ) -> None:
        self._loop = loop
        self._legs = legs
        self._counters = counters
        self._adopt = adopt
        self._report = report
        self._bell = Doorbell(loop, self._visited)

    @property
    def watched(self) -> int:
        """Listening sockets that are watched."""
        return self._bell.watched

    def stop(self) -> None:
        """Nobody is let in any more."""
        self._bell.stop()

    def listen(self, order: orders.Listen) -> None:
        number, port, filter = order.leg, order.port, order.filter
        leg = self._legs.get(number)
        if leg is None:
            leg = self._legs[number] = LegState(number)
        if order.beside is not None:
            self._listen_beside(leg, order, order.beside)
            return
        try:
            sock = sockets.listening(order.address, port, filter)
        except OSError as error:
            self._report(orders.ListenFailed(number, error.errno == errno.EADDRINUSE, error.strerror or str(error)))
            return
        door = leg.door = Door(sock, number, filter)
        if filter.kind != "closed":
            self._open(door)
        self._report(orders.Listening(number, port or sock.getsockname()[1]))

    def _listen_beside(self, leg: LegState, order: orders.Listen, beside: int) -> None:
        owner = self._legs.get(beside)
        door = leg.door = owner.door if owner is not None else None
        if door is None:
            self._report(orders.ListenFailed(leg.id, False, "the port that was to be shared is gone"))
            return
        door.admit(leg.id, order.filter)
        self._refresh(door)
        self._report(orders.Listening(leg.id, order.port))

    def set_filter(self, order: orders.SetFilter) -> None:
        leg = self._legs.get(order.leg)
        if leg is None or leg.door is None:
            return
        self.tell_held(leg)
        if order.filter.kind == "closed":
            self.silence(leg)
        elif leg.sock is None:  # else it was given before the engine heard of the connection
            leg.door.admit(leg.id, order.filter)
            self._refresh(leg.door)

    def _refresh(self, door: Door) -> None:
        """Answer those that the legs of a port wait for, and nobody else."""
        wanted = door.wanted
        if not wanted:
            self._shut(door)
            return
        if door.stale:
            self._turn_away(door)
        if wanted != door.program:
            door.filtered = True
            synfilter.attach(door.sock, *wanted)
            door.program = wanted
        self._open(door)

    def _open(self, door: Door) -> None:
        door.open = True
        if not door.watched:
            door.watched = True
            self._bell.watch(door)

    def silence(self, leg: LegState) -> None:
        """This leg takes no connection from now on."""
        door = leg.door
        if door is None or not door.open:
            return
        door.admit(leg.id, orders.CLOSED)
        if len(door.filters) == 1:
            self._shut(door)
        else:
            self._refresh(door)

    def _shut(self, door: Door) -> None:
        """Drop every SYN from now on. Who is connected already and was not accepted is nobody's: neither may he become
        the peer of a later connection. He is turned away when the poller tells of him, and at the latest before the
        door opens again."""
        if not door.open:
            return
        door.open = False
        door.filtered = door.stale = True
        with contextlib.suppress(OSError):  # no memory is left: then it ends with the leg
            synfilter.attach(door.sock, orders.CLOSED)
            door.program = _NOBODY

    def _turn_away(self, door: Door) -> bool:
        """Close what came before the door was shut; False when there is no descriptor for it."""
        try:
            while True:
                door.sock.accept()[0].close()
        except BlockingIOError:  # nobody is left
            door.stale = False
        except OSError:
            return False
        return True

    def tell_held(self, leg: LegState) -> None:
        door = leg.door
        if door is not None and door.filtered and (count := synfilter.dropped(door.sock)) > door.held:
            door.held = count
            self._report(orders.SynHeld(leg.id, count))

    def close(self, leg: LegState) -> None:
        door, leg.door = leg.door, None
        if door is None:
            return
        door.filters.pop(leg.id, None)
        if door.filters:
            self._refresh(door)
            return
        door.open = False
        if door.watched:
            door.watched = False
            self._bell.forget(door)
        door.sock.close()

    def hand_over(self, leg: LegState, heir: int) -> None:
        self.silence(leg)
        new = self._legs[heir] = LegState(heir)
        new.door, leg.door = leg.door, None
        if new.door is not None:
            new.door.succeed(leg.id, heir)

    def _visited(self, door: Door) -> None:
        """Somebody waits at a door."""
        if door.open:
            self._accept(door)
        elif door.watched and not self._turn_away(door):
            # He stays until the door opens or the leg ends, and the poller need not tell of him till then.
            door.watched = False
            self._bell.pause(door)

    def _accept(self, door: Door) -> None:
        if door.stale:  # there was no descriptor to turn them away with, and nobody can tell them from others now
            if not self._turn_away(door):
                self._accept_later(door)
            return
        try:
            sock, address = door.sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return
        except OSError as error:  # out of descriptors: the connection stays in the backlog, try again a little later
            log.error("cannot accept", error=error.strerror)
            self._accept_later(door)
            return
        taker = door.taker(address[0], address[1])
        leg = self._legs.get(taker) if taker is not None else None
        if leg is None:  # it came while the filter was another
            sock.close()
            return
        inherited = door.filtered
        self.silence(leg)
        if inherited:
            with contextlib.suppress(OSError):
                synfilter.detach(sock)
        self._adopt(leg, sock)
        self._counters.accepted += 1
        self._report(orders.Accepted(leg.id, address[0], address[1]))

    def _accept_later(self, door: Door) -> None:
        self._bell.pause(door)
        self._loop.call_later(_ACCEPT_AGAIN, self._accept_again, door)

    def _accept_again(self, door: Door) -> None:
        if door.watched:
            self._bell.watch(door)
