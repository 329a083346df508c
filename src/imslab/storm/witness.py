"""The capture of a storm as a context: started before the first call, asked after the last."""

import asyncio
import sys
from typing import Self

import msgspec

from imslab.process import LabError, environment
from imslab.storm.capture import Sightings

_DEADLINE = 20.0


class Witness:
    """Runs :mod:`imslab.storm.capture` beside the storm. ``why_not`` says why it cannot, "" when it runs."""

    def __init__(self, access: range, core: range) -> None:
        self.why_not = ""
        self._arguments = [f"{ports.start}-{ports.stop - 1}" for ports in (access, core)]
        self._process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "imslab.storm.capture", *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(),
        )
        output, errors = self._process.stdout, self._process.stderr
        if output is None or errors is None:
            raise LabError("the capture has no output")
        async with asyncio.timeout(_DEADLINE):
            if await output.readline() != b"ready\n":
                lines = (await errors.read()).decode(errors="replace").splitlines()
                self.why_not = f"no packets can be captured here: {lines[-1] if lines else 'no reason given'}"
        return self

    async def tell(self) -> Sightings:
        """End the capture; what it saw. Raises LabError when it did not run to its end."""
        process = self._process
        if process is None or self.why_not:
            raise LabError(self.why_not or "the capture was not started")
        async with asyncio.timeout(_DEADLINE):
            out, errors = await process.communicate()
        if process.returncode:
            raise LabError(f"the capture failed: {errors.decode(errors='replace')}")
        return msgspec.json.decode(out, type=Sightings)

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
