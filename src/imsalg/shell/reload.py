"""New settings for a node that runs: what changed, what of it takes effect at once, and what is refused.

A reload is whole or nothing: one key that cannot change live refuses all of them, and so does anything that is wrong
with the file or a certificate. What is not listed in :data:`LIVE` is fixed at start (sockets, names, memory layout) and
takes a restart, which registrations and calls survive.
"""

import ssl
from fnmatch import fnmatchcase
from pathlib import Path

from msgspec import Struct

from imsalg.settings import ListenSettings, Settings
from imskit.contexts import client_context, server_context
from imskit.links import check_plain
from imskit.settings import SettingsError, flat, load
from imskit.sockets import parse_endpoint
from imskit.tls import expiry_of

_REALM = (
    *("allow_unregistered", "route_check", "early_syn", "source_filter", "source_prefix4", "source_prefix6"),
    *("source_ports", "path_scheme", "inactivity", "family", "latch", "msrp", "msrp.*", "bfcp", "bfcp.*", "msrp_mode"),
    *("tcp_mode", "bfcp_tls_role"),
)
LIVE: tuple[str, ...] = (
    *("policy.msrp", "policy.msrp.*", "policy.bfcp", "policy.bfcp.*", "policy.allow_sha1", "failures.*"),
    *("gateway_timers.*", "timers.silent_call", "timers.drain_time"),
    *("limits.calls", "limits.legs", "limits.media_lines", "limits.bindings", "limits.contacts_per_user"),
    *("listen.*.certificate", "listen.*.key", "listen.*.ca", "gateways.certificate", "gateways.key", "gateways.ca"),
    *(f"realm.*.{key}" for key in _REALM),
)
"""Keys that take effect at once: for what comes from then on; calls keep what was agreed. ``*`` is one part or more."""
SECRET = "imsalg.token_key"


class Change(Struct, frozen=True):
    """A key with its values before and after; None where it has none."""

    key: str
    before: object
    after: object

    @property
    def live(self) -> bool:
        """True when it can change while the node runs."""
        parts = self.key.count(".")
        return any(fnmatchcase(self.key, one) and parts == one.count(".") for one in LIVE)

    def __str__(self) -> str:
        if self.key == SECRET:
            return self.key
        return f"{self.key}: {_shown(self.before)} -> {_shown(self.after)}"


def _shown(value: object) -> str:
    return "(none)" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def changes(old: Settings, new: Settings) -> list[Change]:
    """Every key whose value differs, in the order of the settings."""
    before, after = flat(old), flat(new)
    keys = dict.fromkeys((*before, *after))
    return [Change(key, before.get(key), after.get(key)) for key in keys if before.get(key) != after.get(key)]


class Contexts(Struct):
    """TLS of every listener that has it, read anew: server and client side by place in ``listen``; the H.248 side."""

    servers: dict[int, ssl.SSLContext]
    clients: dict[int, ssl.SSLContext]
    expiries: dict[int, float]
    gateways: ssl.SSLContext | None


def tls_contexts(settings: Settings) -> Contexts:
    """Read every certificate and key; raises TlsConfigError."""
    made = Contexts({}, {}, {}, None)
    for number, listen in enumerate(settings.listen):
        if listen.transport == "tls" and listen.certificate and listen.key:
            made.servers[number] = server_context(listen.certificate, listen.key)
            made.clients[number] = client_context(ca=listen.ca, certificate=listen.certificate, key=listen.key)
            made.expiries[number] = expiry_of(listen.certificate)
    link = settings.gateways
    if link.certificate and link.key:
        made.gateways = server_context(link.certificate, link.key, client_ca=link.ca)
    return made


def label(listen: ListenSettings) -> str:
    """A listener's name in metrics."""
    return f"{listen.realm}/{listen.transport}"


def read(config: Path, old: Settings) -> tuple[Settings, list[Change], Contexts]:
    """The settings in ``config`` if they may take the place of ``old``.

    Raises SettingsError with every reason why not, TlsConfigError for a certificate that cannot be used.
    """
    new = load(config, Settings)
    check_plain(parse_endpoint(new.gateways.listen), new.gateways.insecure)
    changed = changes(old, new)
    fixed = [one for one in changed if not one.live]
    if fixed:
        raise SettingsError(f"{config}: cannot change while imsalg runs, restart it: {one}" for one in fixed)
    return new, changed, tls_contexts(new)
