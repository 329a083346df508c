"""Certificates of media legs: rotation, realms, one per session, what peers show, and the key log."""

import asyncio
import datetime
import os
import stat
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID
from OpenSSL import crypto
from structlog.testing import capture_logs
from tests.unit.agw.agw_support import AGW, UE, TlsPeer, Version, accept, connect, fingerprints, listener, on_loop, rig

from agw.core import orders
from agw.settings import RealmSettings, Settings, TlsSettings
from agw.shell.identities import Identities
from agw.shell.keylog import check_key_log, write_secret
from imskit.tls import Identity, PrivateKey, TlsConfigError, fingerprint_of, subject_of, validity_text

NOW = datetime.datetime.now(datetime.UTC)
KEYS: dict[str, Callable[[], PrivateKey]] = {
    "ECDSA P-256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ECDSA P-384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "RSA 2048": lambda: rsa.generate_private_key(65537, 2048),
    "Ed25519": ed25519.Ed25519PrivateKey.generate,
}


def certificate(
    key: PrivateKey,
    subject: str = "peer",
    issuer: tuple[str, PrivateKey] | None = None,
    days: tuple[int, int] = (-1, 30),
    ca: bool = False,
) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    issuer_name, signer = issuer or (subject, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + datetime.timedelta(days=days[0]))
        .not_valid_after(NOW + datetime.timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    return builder.sign(signer, None if isinstance(signer, ed25519.Ed25519PrivateKey) else hashes.SHA256())


async def handshake(
    peer: Identity,
    announced: orders.Fingerprints,
    *,
    role: Literal["client", "server"] = "server",
    version: Version = "1.3",
    tls: TlsSettings | None = None,
    identities: Identities | None = None,
    key_log: str = "",
) -> tuple[orders.Report, TlsPeer]:
    """One handshake of leg 1; the report that ends it, and the peer."""
    async with rig(tls, identities=identities) as r:
        if role == "server":
            sock = await asyncio.to_thread(connect, r.listen(1))
            await r.wait(orders.Accepted, 1)
        else:
            server = listener()
            r(orders.Dial(1, "127.0.0.1", 0, "127.0.0.1", server.getsockname()[1]))
            sock = await accept(server)
            server.close()
            await r.wait(orders.Connected, 1)
        r(orders.ArmTls(1, role, announced, 0, key_log))
        end = TlsPeer(sock, "client" if role == "server" else "server", version, peer)
        task = asyncio.ensure_future(asyncio.to_thread(end.handshake))
        report = await r.wait((orders.TlsOpen, orders.VerifyFailed), 1)
        await asyncio.gather(task, return_exceptions=True)
        sock.close()
        return report, end


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("kind", KEYS)
def test_peers_with_any_kind_of_key(kind: str, role: Literal["client", "server"], version: Version) -> None:
    key = KEYS[kind]()
    peer = Identity(certificate(key), key)
    report, _ = on_loop(lambda: handshake(peer, fingerprints(peer), role=role, version=version))
    assert isinstance(report, orders.TlsOpen)
    assert report.seen == peer.fingerprint("sha-256")


@pytest.mark.parametrize("announce", ["leaf", "issuer"])
def test_of_a_chain_the_leaf_counts(announce: str) -> None:
    """RFC 8122 5: the fingerprint is that of the certificate that the peer proves to own."""
    root = ec.generate_private_key(ec.SECP256R1())
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = certificate(root, "root", ca=True)
    peer = Identity(certificate(key, "leaf", ("root", root)), key, [issuer])
    other = Identity(issuer, root)
    report, _ = on_loop(lambda: handshake(peer, fingerprints(peer if announce == "leaf" else other)))
    if announce == "leaf":
        assert isinstance(report, orders.TlsOpen)
    else:
        assert isinstance(report, orders.VerifyFailed)
        assert report.subject == "CN=leaf"


@pytest.mark.parametrize(("days", "text"), [((-30, -2), "expired"), ((2, 30), "not valid before")])
def test_validity_does_not_matter_and_is_logged_for_debugging(days: tuple[int, int], text: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    peer = Identity(certificate(key, days=days), key)
    with capture_logs() as logs:
        report, _ = on_loop(lambda: handshake(peer, fingerprints(peer)))
    assert isinstance(report, orders.TlsOpen)
    assert [line["log_level"] for line in logs if text in str(line.get("validity"))] == ["debug"]


def test_several_fingerprints_of_the_preferred_hash_and_one_matches() -> None:
    other = AGW.fingerprint("sha-512")
    announced = (
        ("sha-256", AGW.fingerprint("sha-256")),
        ("sha-512", other),
        ("sha-512", UE.fingerprint("sha-512")),
    )
    report, _ = on_loop(lambda: handshake(UE, announced))
    assert isinstance(report, orders.TlsOpen)
    assert (report.hash, report.seen) == ("sha-512", UE.fingerprint("sha-512"))


@pytest.mark.parametrize(
    ("tls", "version"), [(TlsSettings(max_version="1.2"), "TLSv1.2"), (TlsSettings(min_version="1.3"), "TLSv1.3")]
)
def test_versions_are_settings(tls: TlsSettings, version: str) -> None:
    peer_version: Version = "1.2" if version == "TLSv1.2" else "1.3"
    report, _ = on_loop(lambda: handshake(UE, fingerprints(UE), tls=tls, version=peer_version))
    assert isinstance(report, orders.TlsOpen)
    assert report.version == version


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("set_before", [True, False])
def test_secrets_go_to_the_key_log_only_where_ordered(
    tmp_path: Path, set_before: bool, ordered: bool, version: Version
) -> None:
    path = tmp_path / "keys.txt"
    tls = TlsSettings(key_log=str(path), key_log_peers=("127.0.0.1/32",)) if set_before else TlsSettings()
    log = str(path) if ordered else ""
    on_loop(lambda: handshake(UE, fingerprints(UE), tls=tls, version=version, key_log=log))
    if not set_before and not ordered:
        assert not path.exists()
        return
    labels = [line.split(" ")[0] for line in path.read_text().splitlines()]
    if not ordered:
        assert labels == []
    elif version == "1.2":
        assert labels == ["CLIENT_RANDOM"]
    else:
        assert {"CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"} <= set(labels)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def shown(identities: Identities, numbers: list[int]) -> list[bytes]:
    """Fingerprints of the certificates that peers see when legs are armed with these numbers."""

    async def main() -> list[bytes]:
        found = []
        async with rig(identities=identities) as r:
            for leg, number in enumerate(numbers, start=1):
                sock = await asyncio.to_thread(connect, r.listen(leg))
                await r.wait(orders.Accepted, leg)
                r(orders.ArmTls(leg, "server", fingerprints(UE), number))
                peer = TlsPeer(sock)
                await asyncio.to_thread(peer.handshake)
                seen = peer.tls.get_peer_certificate(as_cryptography=True)
                assert seen is not None
                sock.close()
                found.append(bytes(seen.fingerprint(hashes.SHA256())))
        return found

    return on_loop(main)


def saved(folder: Path, name: str, identity: Identity) -> dict[str, Any]:
    paths = {"certificate": folder / f"{name}.pem", "key": folder / f"{name}.key"}
    identity.save(paths["certificate"], paths["key"])
    return {key: str(path) for key, path in paths.items()}


def test_realms_have_their_own_and_rotation_keeps_the_old_one_usable(tmp_path: Path) -> None:
    first, second, core = (Identity.generate(name) for name in ("first", "second", "core"))
    files = saved(tmp_path, "default", first)
    realms = {"access": RealmSettings(ports="0"), "core": RealmSettings(ports="0", **saved(tmp_path, "core", core))}
    settings = Settings(realm=realms, tls=TlsSettings(**files))
    identities = Identities(settings, "agw-1")
    old = identities.current
    assert old.default.fingerprints["sha-256"] == first.fingerprint("sha-256")
    assert old.default.fingerprints["sha-384"] == first.fingerprint("sha-384")
    assert old.realms["core"].fingerprints["sha-512"] == core.fingerprint("sha-512")
    second.save(Path(files["certificate"]), Path(files["key"]))
    new = identities.rotate()
    assert new.default.fingerprints["sha-256"] == second.fingerprint("sha-256")
    numbers = [old.default.number, new.default.number, new.realms["core"].number]
    assert shown(identities, numbers) == [identity.fingerprint("sha-256") for identity in (first, second, core)]
    assert identities.held == 4
    identities.forget(old.default.number)
    assert identities.context(old.default.number) is None
    assert set(identities.expiry()) == {"media", "core"}


def test_realms_have_their_own_versions_and_suites_with_the_same_certificate(tmp_path: Path) -> None:
    realms = {
        "access": RealmSettings(ports="0", min_version="1.3", ciphersuites="TLS_AES_256_GCM_SHA384"),
        "core": RealmSettings(ports="0"),
    }
    identities = Identities(Settings(realm=realms, tls=TlsSettings(**saved(tmp_path, "ours", AGW))), "agw-1")
    known = identities.current
    assert known.realms["access"].fingerprints == known.default.fingerprints
    assert set(known.realms) == {"access"}

    async def main() -> None:
        async with rig(identities=identities) as r:
            numbers = (known.default.number, known.realms["access"].number, identities.fresh("access").number)
            tries: list[tuple[int, Version]] = [(number, version) for number in numbers for version in ("1.2", "1.3")]
            for leg, (number, version) in enumerate(tries, start=1):
                good = number == numbers[0] or version == "1.3"
                sock = await asyncio.to_thread(connect, r.listen(leg))
                await r.wait(orders.Accepted, leg)
                r(orders.ArmTls(leg, "server", fingerprints(UE), number))
                task = asyncio.ensure_future(asyncio.to_thread(TlsPeer(sock, version=version).handshake))
                report = await r.wait((orders.TlsOpen, orders.TlsFailed), leg)
                await asyncio.gather(task, return_exceptions=True)
                assert isinstance(report, orders.TlsOpen) is good
                if number != numbers[0] and isinstance(report, orders.TlsOpen):
                    assert report.cipher == "TLS_AES_256_GCM_SHA384"
                sock.close()

    on_loop(main)


def test_realms_that_contradict_the_common_versions_are_refused() -> None:
    with pytest.raises(ValueError, match="realm 'access': 'min_version' is above"):
        Settings(realm={"access": RealmSettings(ports="0", min_version="1.3")}, tls=TlsSettings(max_version="1.2"))


def test_files_that_cannot_be_used_change_nothing(tmp_path: Path) -> None:
    files = saved(tmp_path, "default", UE)
    identities = Identities(Settings(tls=TlsSettings(**files)), "agw-1")
    before = identities.current
    Path(files["key"]).write_text("not a key")
    with capture_logs() as logs, pytest.raises(TlsConfigError):
        identities.rotate()
    assert identities.current is before
    assert [line["log_level"] for line in logs] == ["error"]
    assert identities.held == 1


def test_a_certificate_for_one_session_is_made_and_forgotten() -> None:
    identities = Identities.single(AGW)

    async def main() -> None:
        async with rig(identities=identities) as r:
            r(orders.MakeIdentity(7))
            (made,) = r.seen(orders.IdentityMade, 7)
            assert dict(made.fingerprints)["sha-256"] != AGW.fingerprint("sha-256")
            assert identities.held == 2
            r(orders.ForgetIdentity(7, made.identity))
            assert identities.held == 1

    on_loop(main)


def test_the_end_of_a_certificate_is_told_in_time(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    files = saved(tmp_path, "short", Identity(certificate(key, days=(-1, 10)), key))
    tls = TlsSettings(**files)
    for within, warned in ((30 * 86_400.0, True), (5 * 86_400.0, False), (0.0, False)):
        with capture_logs() as logs:
            identities = Identities(Settings(tls=replace(tls, expiry_warning=within)), "agw-1")
        assert ([line["days"] for line in logs] == [10.0]) is warned
    assert identities.expiry()["media"] == pytest.approx((NOW + datetime.timedelta(days=10)).timestamp(), abs=2)


@pytest.mark.parametrize("name", ["core", "media"])
def test_a_realm_has_its_certificate_for_itself_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    files = [str(tmp_path / file) for file in ("d.pem", "d.key", "r.pem", "r.key")]
    usual, own = Identity.generate("default"), Identity.generate("realm", days=1000)
    usual.save(Path(files[0]), Path(files[1]))
    own.save(Path(files[2]), Path(files[3]))
    realms = {
        "access": RealmSettings(),
        name: RealmSettings(ports="30000-30999", certificate=files[2], key=files[3], min_version="1.3"),
    }
    made = Identities(Settings(tls=TlsSettings(certificate=files[0], key=files[1]), realm=realms), "agw")
    assert made.current.default.fingerprints["sha-256"] == usual.fingerprint()
    assert made.current.realms[name].fingerprints["sha-256"] == own.fingerprint()
    assert made.expiry()[name] == own.certificate.not_valid_after_utc.timestamp()


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("right", [True, False])
def test_a_certificate_that_only_openssl_reads_is_judged_by_its_octets(known: bool, right: bool) -> None:
    """X.509 version 8: whatever a peer shows, its leg comes to an end."""
    der = bytearray(UE.der)
    der[der.index(bytes.fromhex("a003020102")) + 4] = 7
    shown = SimpleNamespace(
        certificate=crypto.load_certificate(crypto.FILETYPE_ASN1, bytes(der)),
        key=crypto.PKey.from_cryptography_key(UE.key),
        chain=(),
    )
    assert subject_of(bytes(der)) == validity_text(bytes(der), 0.0) == ""
    announced = (("sha-256", fingerprint_of(bytes(der))),) if right else fingerprints(AGW)

    async def main() -> None:
        async with rig() as r:
            sock = await asyncio.to_thread(connect, r.listen(1))
            await r.wait(orders.Accepted, 1)
            r(orders.ArmTls(1, "server", announced if known else None))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # of pyOpenSSL, for its own kind of certificate
                end = TlsPeer(sock, identity=cast(Identity, shown))
            task = asyncio.ensure_future(asyncio.to_thread(end.handshake))
            if not known:
                await r.wait(orders.HandshakeDone, 1)
                r(orders.SetFingerprints(1, announced))
            report = await r.wait((orders.TlsOpen, orders.VerifyFailed), 1)
            assert isinstance(report, orders.TlsOpen if right else orders.VerifyFailed)
            await asyncio.gather(task, return_exceptions=True)
            sock.close()

    on_loop(main)


def test_a_key_log_is_a_plain_file_of_ours_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.txt"
    path.touch(0o600)
    check_key_log(str(path))
    write_secret(str(path), b"CLIENT_RANDOM x y")
    assert path.read_bytes() == b"CLIENT_RANDOM x y\n"
    path.chmod(0o644)
    with pytest.raises(PermissionError, match="mode 0644"):
        check_key_log(str(path))
    with capture_logs() as logs:
        write_secret(str(path), b"CLIENT_RANDOM more")
    assert [entry["event"] for entry in logs] == ["the key log cannot be written"]
    assert path.read_bytes() == b"CLIENT_RANDOM x y\n"


@pytest.mark.parametrize("reader", [True, False])
def test_a_pipe_as_key_log_is_refused_at_once(tmp_path: Path, reader: bool) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o600)
    held = os.open(path, os.O_RDONLY | os.O_NONBLOCK) if reader else None
    with pytest.raises(OSError, match="plain file" if reader else "No such device"):
        check_key_log(str(path))
    if held is not None:
        os.close(held)
