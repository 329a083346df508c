"""Softphones without a sound card: baresip, linphone and pjsua, driven as programs, all told in the same words."""

import json
import os
import re
import shutil
import socket
import struct
import time
import wave
from pathlib import Path
from typing import Protocol

from msgspec import Struct
from tests.interop.programs import BEAT, DEADLINE, Program, ports_of


class Account(Struct, frozen=True):
    """Who a phone is, and the P-CSCF that it registers with; ``ca`` is the file with its authority, for tls."""

    user: str
    password: str
    proxy: tuple[str, int]
    transport: str = "udp"
    domain: str = "lab.example"
    ca: str = ""

    @property
    def aor(self) -> str:
        """The public identity."""
        return f"sip:{self.user}@{self.domain}"

    @property
    def route(self) -> str:
        """The P-CSCF as outbound proxy."""
        return f"sip:{self.proxy[0]}:{self.proxy[1]};transport={self.transport}"


class Phone(Protocol):
    """What the tests ask of each kind of phone."""

    program: Program

    def registered(self) -> None:
        """Wait until it is."""

    def dial(self, uri: str) -> None:
        """Call."""

    def answer(self) -> None:
        """Wait for a call and take it."""

    def talking(self) -> None:
        """Wait until the call is established."""

    def hang_up(self) -> None:
        """End the call."""

    def over(self) -> None:
        """Wait until the call has ended."""

    def close(self) -> None:
        """De-register and end the program."""


def tone(folder: Path) -> Path:
    """Half a second of a tone for phones that play a file as their microphone."""
    path = folder / "tone.wav"
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(b"".join(struct.pack("<h", 8_000 if at % 16 < 8 else -8_000) for at in range(4_000)))
    return path


class Baresip:
    """baresip with a file as microphone, told what to do by the netstrings of its module ctrl_tcp."""

    def __init__(self, account: Account, folder: Path, host: str) -> None:
        folder.mkdir(parents=True)
        control, sip = ports_of(host, 2)
        modules = next(Path("/usr/lib").glob("**/baresip/modules"))
        settings = {
            "poll_method": "epoll",
            "sip_listen": f"{host}:{sip}",
            "audio_player": "aufile," + str(folder / "heard.wav"),
            "audio_source": f"aufile,{tone(folder)}",
            "audio_alert": "aufile," + str(folder / "alert.wav"),
            "net_interface": host,
            "ctrl_tcp_listen": f"{host}:{control}",
            "module_path": modules,
        }
        lines = [f"{key} {value}" for key, value in settings.items()]
        lines += [f"module {name}.so" for name in ("g711", "aufile")]
        lines += [f"module_tmp {name}.so" for name in ("uuid", "account")]
        lines += [f"module_app {name}.so" for name in ("menu", "ctrl_tcp")]
        (folder / "config").write_text("\n".join(lines) + "\n")
        (folder / "contacts").write_text("")
        (folder / "accounts").write_text(
            f"<{account.aor};transport={account.transport}>;auth_user={account.user};auth_pass={account.password}"
            f';outbound="{account.route}";answermode=manual;regint=600;audio_codecs=PCMU\n'
        )
        self.program = Program(["baresip", "-f", folder, "-v"], folder, name=f"baresip-{account.user}")
        self.program.wait_for("baresip is ready")
        self._sock = socket.create_connection((host, control), DEADLINE)
        self._sock.settimeout(BEAT)
        self._data = b""
        self._events: list[str] = []

    def registered(self) -> None:
        self.program.wait_for(r"200 OK \(.*\[\d+ binding")

    def dial(self, uri: str) -> None:
        self._tell("dial", uri)

    def answer(self) -> None:
        self._event("CALL_INCOMING")
        self._tell("accept")

    def talking(self) -> None:
        self._event("CALL_ESTABLISHED")

    def hang_up(self) -> None:
        self._tell("hangup")

    def over(self) -> None:
        self._event("CALL_CLOSED")

    def close(self) -> None:
        if not self.program.ended(0):
            self._tell("quit")
            self.program.ended(3.0)
        self._sock.close()
        self.program.stop()

    def _tell(self, command: str, parameters: str = "") -> None:
        text = json.dumps({"command": command, "params": parameters, "token": command}).encode()
        self._sock.sendall(b"%d:%s," % (len(text), text))

    def _event(self, kind: str) -> None:
        end = time.monotonic() + DEADLINE
        while kind not in self._events:
            assert time.monotonic() < end, f"no {kind}, only {self._events}. {self.program.tail()}"
            assert not self.program.ended(0), self.program.tail()
            self._read()
        del self._events[: self._events.index(kind) + 1]

    def _read(self) -> None:
        try:
            data = self._sock.recv(65_536)
        except TimeoutError:
            return
        assert data, f"baresip closed its control connection. {self.program.tail()}"
        self._data += data
        while (found := re.match(rb"(\d+):", self._data)) is not None:
            start = found.end()
            end = start + int(found[1])
            if len(self._data) <= end:
                return
            said = json.loads(self._data[start:end])
            self._data = self._data[end + 1 :]
            if said.get("event"):
                self._events.append(said["type"])


class Linphone:
    """linphonec with a file as microphone, told what to do on its standard input."""

    def __init__(self, account: Account, folder: Path, host: str) -> None:
        folder.mkdir(parents=True)
        sip, rtp = ports_of(host, 2)
        (folder / "linphonerc").write_text(
            f"""[sip]
bind_address={host}
sip_port={sip if account.transport == "udp" else 0}
sip_tcp_port={sip if account.transport == "tcp" else 0}
sip_tls_port={sip if account.transport == "tls" else 0}
guess_hostname=0
auto_net_state_mon=0
register_only_when_network_is_up=0
contact="{account.user}" <{account.aor}>
use_ipv6=0
keepalive_period=600000
verify_server_certs=0
verify_server_cn=0
media_encryption=none
default_proxy=0
[rtp]
audio_rtp_port={rtp + 1000}
audio_adaptive_jitt_comp_enabled=0
[net]
firewall_policy=0
mtu=1300
[video]
enabled=0
[sound]
playback_dev_id=
[misc]
history_max_size=0
[auth_info_0]
username={account.user}
userid={account.user}
passwd={account.password}
realm={account.domain}
domain={account.domain}
[proxy_0]
reg_proxy=<{account.route}>
reg_route=<{account.route};lr>
reg_identity={account.aor}
reg_expires=600
reg_sendregister=1
publish=0
"""
        )
        (folder / ".local" / "share" / "linphone").mkdir(parents=True)  # without it linphone never gets to work
        env = {"HOME": str(folder)}
        command: list[str | Path] = ["linphonec", "-c", folder / "linphonerc", "-d", "6", "-l", folder / "linphone.log"]
        self.program = Program(command, folder, name=f"linphone-{account.user}", env=env)
        self.program.log = folder / "linphone.log"  # it says more there than in its output
        self.program.log.touch()
        self.program.tell("soundcard use files")
        self.program.tell(f"play {tone(folder)}")
        self.program.tell(f"record {folder / 'heard.wav'}")

    def registered(self) -> None:
        self.program.wait_for(r"to \[LinphoneRegistrationOk\]")

    def dial(self, uri: str) -> None:
        self.program.tell(f"call {uri}")

    def answer(self) -> None:
        self.program.wait_for("LinphoneCallIncomingReceived")
        self.program.tell("answer")

    def talking(self) -> None:
        self.program.wait_for("LinphoneCallStreamsRunning")

    def hang_up(self) -> None:
        self.program.tell("terminate")

    def over(self) -> None:
        self.program.wait_for("LinphoneCallReleased")

    def close(self) -> None:
        if not self.program.ended(0):
            self.program.tell("quit")
            self.program.ended(5.0)
        self.program.stop()


class Pjsua:
    """pjsua without sound, told what to do on its standard input."""

    def __init__(self, account: Account, folder: Path, host: str) -> None:
        folder.mkdir(parents=True)
        sip, rtp = ports_of(host, 2)
        command: list[str | Path] = [
            "stdbuf",
            "-o0",
            pjsua_binary(),
            "--null-audio",
            "--no-color",
            "--app-log-level=4",
            "--clock-rate=8000",
        ]
        command += [f"--id={account.aor}", f"--registrar=sip:{account.domain}", f"--realm={account.domain}"]
        command += [f"--username={account.user}", f"--password={account.password}", "--reg-timeout=600"]
        command += [f"--proxy={account.route};lr", f"--local-port={sip}", f"--bound-addr={host}", f"--ip-addr={host}"]
        command += [f"--rtp-port={rtp + 1000}", "--max-calls=2"]
        command += ["--use-tls", f"--tls-ca-file={account.ca}"] if account.transport == "tls" else []
        self.program = Program(command, folder, name=f"pjsua-{account.user}")

    def registered(self) -> None:
        self.program.wait_for("registration success, status=200")

    def dial(self, uri: str) -> None:
        self.program.tell("m")
        self.program.tell(uri)

    def answer(self) -> None:
        self.program.wait_for("Incoming call for account")
        self.program.tell("a")
        self.program.tell("200")

    def talking(self) -> None:
        self.program.wait_for("state changed to CONFIRMED")

    def hang_up(self) -> None:
        self.program.tell("h")

    def over(self) -> None:
        self.program.wait_for("state changed to DISCONNCTD|DISCONNECTED")

    def close(self) -> None:
        if not self.program.ended(0):
            self.program.tell("q")
            self.program.ended(5.0)
        self.program.stop()


def pjsua_binary() -> str:
    """The program that the environment names with PJSUA, or pjsua from PATH; empty where there is none."""
    return shutil.which(os.environ.get("PJSUA", "") or "pjsua") or ""


def call_each_way(one: Phone, two: Phone, aors: tuple[str, str]) -> None:
    """A call from each to the other, hung up by each side in turn."""
    for caller, called, aor in ((one, two, aors[1]), (two, one, aors[0])):
        for ending, staying in ((caller, called), (called, caller)):
            caller.dial(aor)
            called.answer()
            caller.talking()
            called.talking()
            ending.hang_up()
            staying.over()
            ending.over()
