"""The lab core with its sockets: in a process of its own (``imslab core``) or inside a test."""

from imskit.admin import AdminError, AdminServer, Query
from imskit.clock import SystemIds
from imslab.core.machine import REALM, CoreMachine
from imslab.core.settings import CoreSettings
from imslab.sipnode import Deregister, SipNode


class CoreServer:
    """Use as ``async with CoreServer(settings) as core``; ``addresses`` tells the real ones, per transport."""

    def __init__(self, settings: CoreSettings | None = None) -> None:
        self.settings = settings or CoreSettings()
        self.machine = CoreMachine(self.settings, SystemIds())
        self.addresses: dict[str, tuple[str, int]] = {}
        self._node: SipNode | None = None
        self._admin: AdminServer | None = None

    async def __aenter__(self) -> "CoreServer":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def start(self) -> None:
        """Open the sockets; raises OSError naming the address where that fails."""
        node = self._node = SipNode(self.machine)
        for listen in self.settings.listen:
            try:
                self.addresses[listen.transport] = node.listen(REALM, listen.transport, listen.host, listen.port)
            except OSError as error:
                await self.close()
                where = f"{listen.transport} {listen.host}:{listen.port}"
                raise OSError(error.errno, f"{where}: {error.strerror or error}") from None
        self.machine.listening(self.addresses)
        if self.settings.admin:
            self._admin = AdminServer({"deregister": self._deregister})
            await self._admin.start(self.settings.admin)

    def _deregister(self, query: Query) -> dict[str, object]:
        """The network ends the registration of the user ``query.id``."""
        if self._node is None or not self.machine.registrar.knows(query.id):
            raise AdminError(f"no user {query.id!r} here")
        contacts = self.machine.registrar.bindings(query.id, self._node.driver.clock.now())
        self._node.driver.post(Deregister(query.id))
        return {"user": query.id, "contacts": [one.contact.uri for one in contacts]}

    async def close(self) -> None:
        """Close the sockets."""
        if self._admin is not None:
            await self._admin.close()
            self._admin = None
        if self._node is not None:
            await self._node.close()
            self._node = None
