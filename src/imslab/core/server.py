"""The lab core with its sockets: in a process of its own (``imslab core``) or inside a test."""

from imskit.clock import SystemIds
from imslab.core.machine import REALM, CoreMachine
from imslab.core.settings import CoreSettings
from imslab.sipnode import SipNode


class CoreServer:
    """Use as ``async with CoreServer(settings) as core``; ``addresses`` tells the real ones, per transport."""

    def __init__(self, settings: CoreSettings | None = None) -> None:
        self.settings = settings or CoreSettings()
        self.machine = CoreMachine(self.settings, SystemIds())
        self.addresses: dict[str, tuple[str, int]] = {}
        self._node: SipNode | None = None

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

    async def close(self) -> None:
        """Close the sockets."""
        if self._node is not None:
            await self._node.close()
            self._node = None
