import pytest

from imswire.sources import source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:0:1::7", "2001:db8:0:1::/64"),
        ("2001:DB8::1:0:0:0:8", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::7", "2001:db8:0:2::/64"),
        ("::1", "::/64"),
        ("fe80::1%eth0", "fe80::1%eth0"),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.7"),
        ("no:address", "no:address"),
    ],
)
def test_ipv6_counts_by_the_prefix_of_a_subscriber(address: str, source: str) -> None:
    assert source_of(address) == source
