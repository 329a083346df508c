"""Other people's phones behind the P-CSCF, with Kamailio as their home network: baresip, linphone and pjsua.

They call each other and are hung up on from both ends. Their audio is nobody's business at the edge: what they write in
SDP comes out to the octet, which the capture shows.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.capture import bodies, faults, values
from tests.interop.kamailio_core import Recording, needs_kamailio, recorded_lab
from tests.interop.programs import needs
from tests.interop.softphones import Account, Baresip, Linphone, Phone, Pjsua, call_each_way, pjsua_binary

pytestmark = [
    pytest.mark.interop,
    pytest.mark.system,
    pytest.mark.xdist_group("softphones"),
    needs_kamailio,
]

baresip = pytest.param(Baresip, marks=needs("baresip", "baresip-core"), id="baresip")
linphone = pytest.param(Linphone, marks=needs("linphonec", "linphone-cli"), id="linphone")
pjsua = pytest.param(
    Pjsua,
    marks=pytest.mark.skipif(
        not pjsua_binary(), reason="needs pjsua, which Debian does not have: in PATH, or named by the variable PJSUA"
    ),
    id="pjsua",
)
type Kind = type[Baresip] | type[Linphone] | type[Pjsua]


@pytest.fixture(scope="module")
def home() -> Iterator[Recording]:
    """One Kamailio, one P-CSCF (UDP, TCP and TLS), one gateway."""
    with recorded_lab(sip_tls=True) as recording:
        yield recording


def talk(home: Recording, folder: Path, kinds: tuple[Kind, Kind], transports: tuple[str, str]) -> None:
    """The first is alice, the second bob; their logs are shown where it goes wrong."""
    lab, phones = home.lab, list[Phone]()
    ca = str(lab.directory / "pcscf.pem")
    users = ("alice", "bob")
    accounts = [
        Account(user, f"{user}-secret", lab.address("access", transport), transport, ca=ca)
        for user, transport in zip(users, transports, strict=True)
    ]
    try:
        for kind, account in zip(kinds, accounts, strict=True):
            phones.append(kind(account, folder / account.user, lab.own))
        for phone in phones:
            phone.registered()
        for user in users:
            assert len(lab.kamailio.contacts(user)) == 1
        call_each_way(phones[0], phones[1], (accounts[0].aor, accounts[1].aor))
    except BaseException as error:
        for phone in phones:
            error.add_note(phone.program.tail())
        error.add_note(lab.processes["imsalg"].log_tail(8))
        raise
    finally:
        for phone in phones:
            phone.close()
        lab.kamailio.forget(*users)


@pytest.mark.parametrize("first", [baresip, linphone, pjsua])
@pytest.mark.parametrize("second", [baresip, linphone, pjsua])
def test_phones_call_each_other(home: Recording, tmp_path: Path, first: Kind, second: Kind) -> None:
    talk(home, tmp_path, (first, second), ("udp", "udp"))


@pytest.mark.parametrize("kind", [baresip, linphone, pjsua])
def test_phones_over_tcp(home: Recording, tmp_path: Path, kind: Kind) -> None:
    talk(home, tmp_path, (kind, kind), ("tcp", "tcp"))


@pytest.mark.parametrize("kind", [pjsua])
def test_phones_over_tls(home: Recording, tmp_path: Path, kind: Kind) -> None:
    talk(home, tmp_path, (kind, kind), ("tls", "udp"))


# --- witnesses; last in this file ---


def test_session_descriptions_came_out_as_they_went_in(home: Recording) -> None:
    seen = bodies(home.packets())
    described = {key: found for key, found in seen.items() if key[2] in ("INVITE", "200")}
    if not described:
        pytest.skip("no phone is installed")
    for key, found in described.items():
        assert len(found) == 1, (key, found)
        # From the UE to the P-CSCF, to Kamailio, back to the P-CSCF, to the UE; a leg over TLS is not seen. Other
        # exchanges, pjsua's UPDATE after an answer, may be cut short by the end of the call.
        assert found.total() >= 3 or not key[1].endswith("INVITE"), (key, found)


def test_kamailio_found_no_fault(home: Recording) -> None:
    assert home.lab.kamailio.complaints() == []


def test_tshark_found_no_fault(home: Recording) -> None:
    packets = home.packets()
    assert faults(packets) == []
    if not packets:
        pytest.skip("no phone is installed")
    assert set(values(packets, "sip.Method")) >= {"REGISTER", "INVITE", "ACK", "BYE"}
    assert set(values(packets, "sdp.media.proto")) == {"RTP/AVP"}
