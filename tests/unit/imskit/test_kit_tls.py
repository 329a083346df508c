"""Media TLS: both roles demand any certificate, and the fingerprint gate decides (RFC 8122 5.1)."""

import contextlib
import hashlib
import ssl
from pathlib import Path
from typing import Literal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from OpenSSL import SSL

from imskit.common_settings import MediaTlsSettings
from imskit.contexts import client_context, is_mutual, server_context
from imskit.tls import (
    FingerprintMismatch,
    Identity,
    TlsConfigError,
    fingerprint_of,
    media_context,
    media_identity,
    peer_leaf,
    select_fingerprints,
    tls_error_text,
    verify_leaf,
)

ALICE = Identity.generate("alice")
BOB = Identity.generate("bob")
BAD = b"\x00" * 32


def fp(identity: Identity, *names: str) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, identity.fingerprint(name)) for name in names)


def shake(client: SSL.Connection, server: SSL.Connection) -> None:
    """Run a handshake in memory until both sides are done; an SSL.Error of either side comes out."""
    client.set_connect_state()
    server.set_accept_state()
    done: set[SSL.Connection] = set()
    for _ in range(10):
        for side, other in ((client, server), (server, client)):
            with contextlib.suppress(SSL.WantReadError):
                side.do_handshake()
                done.add(side)
            with contextlib.suppress(SSL.WantReadError):  # nothing to hand over
                other.bio_write(side.bio_read(65_536))
        if len(done) == 2:
            return
    pytest.fail("the handshake does not end")


def pair(client: SSL.Context, server: SSL.Context) -> tuple[SSL.Connection, SSL.Connection]:
    return SSL.Connection(client, None), SSL.Connection(server, None)


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_both_roles_see_the_others_self_signed_leaf(version: Literal["1.2", "1.3"]) -> None:
    settings = MediaTlsSettings(min_version=version, max_version=version)
    client, server = pair(media_context(ALICE, settings), media_context(BOB, settings))
    shake(client, server)
    assert client.get_protocol_version_name() == f"TLSv{version}"
    assert peer_leaf(client) == BOB.der
    assert peer_leaf(server) == ALICE.der
    assert "AES128-GCM" in str(client.get_cipher_name()).replace("AES_128_GCM", "AES128-GCM")


def test_one_context_serves_both_roles() -> None:
    context = media_context(ALICE)
    shake(*pair(context, media_context(BOB)))
    shake(*pair(media_context(BOB), context))


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_a_peer_without_a_certificate_gets_no_session(version: Literal["1.2", "1.3"]) -> None:
    bare = SSL.Context(SSL.TLS_CLIENT_METHOD)
    settings = MediaTlsSettings(min_version=version, max_version=version)
    with pytest.raises(SSL.Error) as caught:
        shake(*pair(bare, media_context(BOB, settings)))
    assert "peer did not return a certificate" in tls_error_text(caught.value)


def test_no_session_can_be_resumed() -> None:
    settings = MediaTlsSettings(max_version="1.2")
    alice, bob = media_context(ALICE, settings), media_context(BOB, settings)
    first, server = pair(alice, bob)
    shake(first, server)
    again, server = pair(alice, bob)
    session = first.get_session()
    assert session is not None
    again.set_session(session)
    shake(again, server)
    assert peer_leaf(server) == ALICE.der, "a resumed session would have been without a certificate check"
    assert first.master_key() != again.master_key()


def test_versions_that_do_not_meet_fail() -> None:
    old = media_context(ALICE, MediaTlsSettings(max_version="1.2"))
    new = media_context(BOB, MediaTlsSettings(min_version="1.3"))
    with pytest.raises(SSL.Error, match="protocol"):
        shake(*pair(old, new))


def test_ciphers_are_a_setting_and_nonsense_is_told() -> None:
    settings = MediaTlsSettings(max_version="1.2", ciphers="ECDHE-ECDSA-CHACHA20-POLY1305")
    client, server = pair(media_context(ALICE), media_context(BOB, settings))
    shake(client, server)
    assert server.get_cipher_name() == "ECDHE-ECDSA-CHACHA20-POLY1305"
    with pytest.raises(TlsConfigError, match="no cipher match"):
        media_context(ALICE, MediaTlsSettings(ciphers="ROT13"))


def test_the_generated_certificate_is_p256_self_signed_and_valid_now() -> None:
    identity = Identity.generate("node", hosts=["127.0.0.1", "node.example"])
    key = identity.certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    identity.certificate.verify_directly_issued_by(identity.certificate)
    names = identity.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["node.example"]
    assert identity.fingerprint() == hashlib.sha256(identity.der).digest()
    assert identity.fingerprint("SHA-512") == hashlib.sha512(identity.der).digest()
    with pytest.raises(ValueError, match="md5"):
        identity.fingerprint("md5")


def test_an_identity_is_saved_and_loaded(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    ALICE.save(certificate, key)
    assert key.stat().st_mode & 0o777 == 0o600
    again = media_identity(MediaTlsSettings(certificate=str(certificate), key=str(key)))
    assert again.der == ALICE.der
    shake(*pair(media_context(again), media_context(BOB)))


def test_a_chain_is_loaded_leaf_first(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    ALICE.save(certificate, key)
    certificate.write_bytes(ALICE.certificate_pem() + BOB.certificate_pem())
    identity = Identity.load(certificate, key)
    assert identity.der == ALICE.der
    client, server = pair(media_context(identity), media_context(BOB))
    shake(client, server)
    assert peer_leaf(server) == ALICE.der


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    with pytest.raises(TlsConfigError, match=r"certificate .*c\.pem"):
        Identity.load(certificate, key)
    ALICE.save(certificate, key)
    key.write_text("nonsense")
    with pytest.raises(TlsConfigError, match=r"key .*k\.pem"):
        Identity.load(certificate, key)
    key.write_bytes(BOB.key_pem())
    with pytest.raises(TlsConfigError, match="does not belong"):
        Identity.load(certificate, key)
    with pytest.raises(TlsConfigError, match=r"c\.pem"):
        server_context(certificate, key)
    with pytest.raises(TlsConfigError, match=r"k\.pem"):
        client_context(ca=key)


def test_an_rsa_identity_works_too(tmp_path: Path) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = ALICE.certificate.subject
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1)
        .not_valid_before(ALICE.certificate.not_valid_before_utc)
        .not_valid_after(ALICE.certificate.not_valid_after_utc)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    encoding = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "k.pem").write_bytes(key.private_bytes(*encoding))
    shake(*pair(media_context(Identity.load(tmp_path / "c.pem", tmp_path / "k.pem")), media_context(BOB)))


def test_the_most_preferred_hash_makes_the_set() -> None:
    given = (*fp(ALICE, "sha-256", "sha-512"), *fp(BOB, "sha-512", "sha-384"), ("md5", b"x" * 16))
    assert select_fingerprints(given) == (*fp(ALICE, "sha-512"), *fp(BOB, "sha-512"))
    assert select_fingerprints([("SHA-256", BAD)]) == (("sha-256", BAD),)
    assert select_fingerprints([("sha-1", b"x" * 20), ("md5", b"x" * 16), ("md2", b"x" * 16)]) == ()
    assert select_fingerprints([("sha-1", b"x" * 20)], allow_sha1=True) == (("sha-1", b"x" * 20),)
    both = [("sha-1", b"x" * 20), ("sha-224", b"x" * 28), ("sha-256", b"x" * 32)]
    assert select_fingerprints(both, allow_sha1=True) == (("sha-256", b"x" * 32),)
    assert select_fingerprints(both[1:2], allow_sha1=True) == ()  # weaker than SHA-256, and no setting allows it


def test_any_fingerprint_of_the_chosen_set_lets_the_leaf_pass() -> None:
    given = (("sha-256", BAD), *fp(ALICE, "sha-256"))
    assert verify_leaf(ALICE.der, given) == fp(ALICE, "sha-256")[0]


def test_a_match_outside_the_chosen_set_does_not_count() -> None:
    given = (*fp(ALICE, "sha-256"), ("sha-512", b"\x00" * 64))
    with pytest.raises(FingerprintMismatch) as caught:
        verify_leaf(ALICE.der, given)
    mismatch = caught.value
    assert (mismatch.what, mismatch.hash) == ("mismatch", "sha-512")
    assert mismatch.expected == (("sha-512", b"\x00" * 64),)
    assert mismatch.seen == ALICE.fingerprint("sha-512")
    assert mismatch.subject == "CN=alice"


@pytest.mark.parametrize("name", ["md5", "md2", "sha-1", "sha-3"])
def test_hashes_that_must_not_be_used_are_as_good_as_none(name: str) -> None:
    octets = hashlib.sha1(ALICE.der).digest() if name == "sha-1" else hashlib.md5(ALICE.der).digest()
    with pytest.raises(FingerprintMismatch) as caught:
        verify_leaf(ALICE.der, [(name, octets)])
    assert caught.value.what == "missing"
    assert name in caught.value.hint


def test_sha1_passes_only_where_a_setting_says_so() -> None:
    given = [("sha-1", hashlib.sha1(ALICE.der).digest())]
    assert verify_leaf(ALICE.der, given, allow_sha1=True) == given[0]


@pytest.mark.parametrize("der", [None, b""])
def test_no_certificate_is_missing(der: bytes | None) -> None:
    with pytest.raises(FingerprintMismatch) as caught:
        verify_leaf(der, fp(ALICE, "sha-256"))
    assert (caught.value.what, caught.value.seen, caught.value.subject) == ("missing", b"", "")


@pytest.mark.parametrize(
    "octets", [b"", ALICE.fingerprint()[:-1], ALICE.fingerprint() + b"\0"], ids=["empty", "short", "long"]
)
def test_a_fingerprint_of_a_wrong_length_never_matches(octets: bytes) -> None:
    with pytest.raises(FingerprintMismatch):
        verify_leaf(ALICE.der, [("sha-256", octets)])


def test_an_unreadable_leaf_is_a_mismatch_with_its_fingerprint() -> None:
    with pytest.raises(FingerprintMismatch) as caught:
        verify_leaf(b"garbage", fp(ALICE, "sha-256"))
    assert caught.value.seen == fingerprint_of(b"garbage")
    assert caught.value.subject == ""


def test_signalling_contexts(tmp_path: Path) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    ALICE.save(certificate, key)
    assert not is_mutual(server_context(certificate, key))
    assert is_mutual(server_context(certificate, key, client_ca=certificate))
    assert is_mutual(client_context(ca=certificate))
    assert not is_mutual(client_context(verify=False))
    assert server_context(certificate, key, min_version="1.3").minimum_version == ssl.TLSVersion.TLSv1_3
