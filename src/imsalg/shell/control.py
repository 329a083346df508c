"""What the admin socket can be told, besides asked: drain, undrain and reload; and how the kept state is doing."""

from collections.abc import Callable, Mapping

from imsalg.core.events import Drain, Event, Undrain
from imsalg.shell.keeper import Keeper
from imskit.admin import AdminError, Handler, Query
from imskit.settings import SettingsError
from imskit.tls import TlsConfigError


def controls(
    post: Callable[[Event], None],
    calls: Callable[[], int],
    keeper: Keeper | None,
    reload: Callable[[], list[str]],
) -> Mapping[str, Handler]:
    """The commands. ``calls`` counts those in progress; without ``keeper`` nothing outlives the process; ``reload``
    says what changed and raises SettingsError or TlsConfigError."""

    def drain(query: Query) -> object:
        try:
            seconds = float(query.id) if query.id else None
        except ValueError:
            seconds = -1.0
        if seconds is not None and not 0 <= seconds <= 1e9:
            raise AdminError(f"{query.id!r} is no number of seconds")
        post(Drain(seconds))
        return {"draining": True, "calls": calls(), "seconds": seconds}

    def undrain(query: Query) -> object:
        post(Undrain())
        return {"draining": False, "calls": calls()}

    def state(query: Query) -> object:
        if keeper is None:
            return {"store": "memory"}
        return {
            "store": "sqlite",
            "records": keeper.kept,
            "pending": keeper.pending,
            "commits": keeper.commits,
            "written": keeper.records,
            "failures": keeper.failures,
            "left_out": keeper.left_out,
            "last_commit": keeper.seconds,
        }

    def reloaded(query: Query) -> object:
        try:
            return {"changed": reload()}
        except (SettingsError, TlsConfigError) as error:
            raise AdminError(f"nothing changed:\n{error}") from None

    return {"drain": drain, "undrain": undrain, "state": state, "reload": reloaded}
