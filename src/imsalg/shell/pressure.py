"""Watches whether the process keeps up: how late its event loop is, and how much waits in the kernel for it."""

import asyncio
from collections.abc import Callable, Iterable

from imsalg.core.admission import Admission
from imsalg.core.engine import Engine
from imsalg.overload_settings import OverloadSettings
from imsalg.settings import Settings
from imsalg.shell.sip_transport import SipDoor
from imskit.logs import get_logger

log = get_logger("imsalg.overload")

PROBE = 0.05
"""Seconds between two looks."""
CALM = 5.0
"""Seconds without refusing after which an overload is over, for the log and the metrics."""
LATE_FOR = 1.0
"""Seconds that the loop has to be late every time before that is an overload."""
_LATE_LOOKS = 3


class Pressure:
    """Turns ``admission.shedding`` on while the node is behind, and off again.

    ``waiting()`` gives for each UDP socket the octets that wait in the kernel and the size of its buffer. ``crowded()``
    says that a table of the engine is nearly full. One long step of the loop, or two, is no overload, nor is a
    machine that is busy with something else for a moment: the loop has to be late every time for :data:`LATE_FOR`
    seconds. Refusing ends when a quarter of the lateness or of the queue that began it is left, so that it does not
    flutter.
    """

    def __init__(
        self,
        settings: OverloadSettings,
        admission: Admission,
        waiting: Callable[[], Iterable[tuple[int, int]]],
        crowded: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._admission = admission
        self._waiting = waiting
        self._crowded = crowded
        self._loop = asyncio.get_running_loop()
        self._late = 0
        self._late_since = 0.0
        self._lagging = False
        self._last_shed: float | None = None
        self._refused_before = 0
        self._due = self._loop.time() + PROBE
        self._timer = self._loop.call_at(self._due, self._probe)

    def close(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def _probe(self) -> None:
        now = self._loop.time()
        self.look(now - self._due, now)
        self._due = self._loop.time() + PROBE
        self._timer = self._loop.call_at(self._due, self._probe)

    def look(self, lateness: float, now: float) -> None:
        """One look: the timer came ``lateness`` seconds after its time."""
        settings, admission = self._settings, self._admission
        self._lagging = self._is_lagging(lateness, now)
        share = 4 if admission.shedding else 1
        admission.shedding = self._lagging or (bool(settings.queue) and self._queued(share)) or self._crowded()
        if admission.shedding:
            self._last_shed = now
            if not admission.overloaded:
                admission.overloaded, self._refused_before = True, admission.counts.overload
                queued = max((octets for octets, _ in self._waiting()), default=0)
                log.warning("overload: new work is refused", lateness=round(lateness, 3), queued=queued)
        elif admission.overloaded and self._last_shed is not None and now - self._last_shed > CALM:
            admission.overloaded = False
            log.warning("overload is over", refused=admission.counts.overload - self._refused_before)

    def _is_lagging(self, lateness: float, now: float) -> bool:
        lag = self._settings.lag
        if not lag or lateness <= (lag / 4 if self._lagging else lag):
            self._late = 0
            return False
        if not self._late:
            self._late_since = now - lateness
        self._late += 1
        return self._lagging or (self._late >= _LATE_LOOKS and now - self._late_since >= LATE_FOR)

    def _queued(self, share: int) -> bool:
        most = self._settings.queue
        return any(octets * share > min(most, size // 2) for octets, size in self._waiting())


def stand_guard(settings: Settings, engine: Engine, door: SipDoor) -> Pressure:
    """Put an :class:`Admission` before the engine, and a watch on the load beside it."""
    access = [name for name, realm in settings.realm.items() if realm.kind == "access"]
    numbers = {name: settings.realm[name].emergency_numbers for name in access}
    trusted = [name for name, realm in settings.realm.items() if realm.kind == "core" and realm.trusted is not False]
    retry_after = settings.limits.retry_after
    door.admission = Admission(settings.overload, access, engine.serves, retry_after, numbers, trusted)
    return Pressure(settings.overload, door.admission, door.transports.waiting, lambda: engine.crowded)
