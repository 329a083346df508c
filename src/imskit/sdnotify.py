"""Telling systemd how the service is doing (sd_notify), with nothing but a socket."""

import asyncio
import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the socket that ``NOTIFY_SOCKET`` names; without it every call does nothing.

    ``start_watchdog`` reports at half the interval that ``WATCHDOG_USEC`` asks for, from the event loop, so that a loop
    that hangs is restarted.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        path = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the NUL octet of an abstract address
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._interval = self._watchdog_interval(environ)
        self._timer: asyncio.TimerHandle | None = None

    @property
    def enabled(self) -> bool:
        return bool(self._address)

    @property
    def watchdog_interval(self) -> float:
        """Seconds between two reports; 0 when no watchdog was asked for."""
        return self._interval

    @staticmethod
    def _watchdog_interval(environ: Mapping[str, str]) -> float:
        microseconds, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
            return 0.0
        return int(microseconds) / 2_000_000

    def ready(self, status: str = "") -> None:
        self._send("READY=1", status)

    def reloading(self) -> None:
        self._send("RELOADING=1", "")

    def stopping(self, status: str = "") -> None:
        self._send("STOPPING=1", status)

    def status(self, status: str) -> None:
        """One line that ``systemctl status`` shows."""
        self._send("", status)

    def start_watchdog(self) -> None:
        """Report life from the running loop until :meth:`close`."""
        if self.enabled and self._interval:
            self._send("WATCHDOG=1", "")
            self._timer = asyncio.get_running_loop().call_later(self._interval, self.start_watchdog)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _send(self, state: str, status: str) -> None:
        if not self._address:
            return
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + status.replace("\n", " "))
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError:
            # The supervisor is gone or busy; a service must not fail over that.
            return
