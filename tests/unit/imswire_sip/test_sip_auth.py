import itertools

import pytest

from imswire.base import ProtocolError
from imswire.sip.auth import (
    Challenge,
    Credentials,
    DigestClient,
    Nonces,
    NonceVerdict,
    choose,
    digest_response,
    secret_of,
    verify,
    verify_credentials,
)


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_vectors_of_rfc_7616_3_9_1(algorithm: str, expected: str) -> None:
    secret = secret_of(algorithm, "Mufasa", "http-auth@example.org", "Circle of Life")
    got = digest_response(
        algorithm,
        secret,
        method="GET",
        uri="/dir/index.html",
        nonce="7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        qop="auth",
        cnonce="f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        nonce_count=1,
    )
    assert got == expected


def test_vector_of_rfc_2617_3_5() -> None:
    secret = secret_of("MD5", "Mufasa", "testrealm@host.com", "Circle Of Life")
    nonce = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
    got = digest_response(
        "MD5", secret, method="GET", uri="/dir/index.html", nonce=nonce, qop="auth", cnonce="0a4f113b", nonce_count=1
    )
    assert got == "6629fae49393a05397450978507c4ef1"


def client(challenge: Challenge, password: str = "secret") -> DigestClient:
    count = itertools.count()
    made = DigestClient("alice", password, lambda: f"c{next(count)}")
    assert made.learn([str(challenge)])
    return made


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "AKAv1-MD5"])
@pytest.mark.parametrize("qop", [("auth",), ("auth", "auth-int"), ()])
def test_client_and_server_agree(algorithm: str, qop: tuple[str, ...]) -> None:
    challenge = Challenge.digest("example.org", "n1", algorithm=algorithm, qop=qop, opaque='o"1')
    credentials = Credentials.parse(str(client(challenge).authorize("REGISTER", "sip:example.org")))
    secret = secret_of(algorithm, "alice", "example.org", "secret")
    assert verify(credentials, method="REGISTER", secret=secret, algorithm=algorithm)
    assert verify_credentials(credentials, method="REGISTER", password="secret")
    assert credentials.opaque == 'o"1'
    assert not verify(credentials, method="INVITE", secret=secret, algorithm=algorithm)
    assert not verify_credentials(credentials, method="REGISTER", password="Secret")


def test_the_client_does_not_choose_the_algorithm() -> None:
    credentials = client(Challenge.digest("r", "n", algorithm="MD5")).authorize("REGISTER", "sip:r")
    secret = secret_of("MD5", "alice", "r", "secret")
    assert not verify(credentials, method="REGISTER", secret=secret, algorithm="SHA-256")
    assert not verify_credentials(credentials, method="REGISTER", password="secret", algorithms=("SHA-256",))


def test_the_nonce_count_rises_and_starts_anew_with_a_new_nonce() -> None:
    user = client(Challenge.digest("r", "n1"))
    assert [user.authorize("OPTIONS", "sip:r").nonce_count for _ in range(3)] == [1, 2, 3]
    user.learn([str(Challenge.digest("r", "n2", stale=True))])
    assert user.challenge is not None
    assert user.challenge.stale
    assert user.authorize("OPTIONS", "sip:r").nonce_count == 1


def test_strongest_challenge_is_chosen() -> None:
    offered = [Challenge.digest("r", "1"), Challenge.digest("r", "2", algorithm="SHA-256")]
    chosen = choose(["Bearer x=y", *map(str, offered), str(Challenge.digest("r", "3", algorithm="SHA-512"))])
    assert chosen == offered[1]
    assert choose([str(Challenge.digest("r", "1", qop=("auth-int",)))]) is None
    assert choose([]) is None


def test_nothing_to_answer() -> None:
    with pytest.raises(ProtocolError):
        DigestClient("a", "b", lambda: "c").authorize("REGISTER", "sip:r")


@pytest.mark.parametrize(
    "text",
    [
        'Digest username="al\\"ice",realm="r", nonce=abc ,uri="sip:r;x=1,2", response="0" , nc=00000001',
        'NoOneKnowsThisScheme opaque-data=here, some="x, y"',
    ],
)
def test_parameters_are_kept(text: str) -> None:
    value = Credentials.parse(text)
    assert Credentials.parse(str(value)) == value


@pytest.mark.parametrize(
    "text", ["", "Digest", "Digest x", 'Digest realm="a', 'Digest realm="a" nonce="b"', "Digest a=1, A=2", "Digest =x"]
)
def test_not_credentials(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        Credentials.parse(text)
    assert caught.value.reason == "sip.auth"


@pytest.mark.parametrize("nc", ["1", "0000000g", "000000001"])
def test_bad_nonce_counts(nc: str) -> None:
    credentials = Credentials.parse(
        f'Digest username="a", realm="r", nonce="n", uri="u", qop=auth, cnonce="c", nc={nc}'
    )
    with pytest.raises(ProtocolError):
        _ = credentials.nonce_count
    assert not verify_credentials(credentials, method="REGISTER", password="x")


def test_unknown_algorithm_and_qop() -> None:
    with pytest.raises(ProtocolError) as caught:
        secret_of("MD4", "a", "r", "p")
    assert caught.value.reason == "sip.auth-algorithm"
    for qop, cnonce in (("auth-int", "c"), ("auth", None)):
        with pytest.raises(ProtocolError):
            digest_response("MD5", "s", method="M", uri="u", nonce="n", qop=qop, cnonce=cnonce)


def test_nonces_age_and_count() -> None:
    nonces = Nonces(lifetime=10.0, limit=2)
    user = client(Challenge.digest("r", nonces.give("n", 0.0)))
    first, second = user.authorize("A", "u"), user.authorize("A", "u")
    assert nonces.check(second, 1.0) is NonceVerdict.FRESH
    assert nonces.check(first, 1.0) is NonceVerdict.REPLAY
    assert nonces.check(second, 1.0) is NonceVerdict.REPLAY
    assert nonces.check(user.authorize("A", "u"), 10.0) is NonceVerdict.FRESH
    assert nonces.check(user.authorize("A", "u"), 10.1) is NonceVerdict.STALE
    for name in ("a", "b", "c"):
        nonces.give(name, 20.0)
    assert len(nonces) == 2
    assert nonces.check(client(Challenge.digest("r", "a")).authorize("A", "u"), 20.0) is NonceVerdict.STALE


def test_without_qop_a_nonce_serves_once() -> None:
    nonces = Nonces()
    user = client(Challenge.digest("r", nonces.give("n", 0.0), qop=()))
    assert nonces.check(user.authorize("A", "u"), 1.0) is NonceVerdict.FRESH
    assert nonces.check(user.authorize("A", "u"), 1.0) is NonceVerdict.REPLAY
