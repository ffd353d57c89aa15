"""The kind of a host, in every spelling that a connection accepts."""

from __future__ import annotations

import pytest

from apimart_async import InvalidArgumentError, Limits
from apimart_async.urls import is_loopback, is_public, matches

LOOPBACK = """
127.0.0.1 127.1 127.0.0.1. 2130706433 0x7f000001 0x7f.1 0177.0.0.1 017700000001 127.255.255.254 ::1
[::1] 0:0:0:0:0:0:0:1 ::ffff:127.0.0.1 ::ffff:7f00:1 [::ffff:127.0.0.1] localhost LOCALHOST.
a.localhost \uff11\uff12\uff17.0.0.1 127\u30020\u30020\u30021
"""

PRIVATE = """
0.0.0.0 0 10.1.2.3 10.1.2.3. 10.1 012.1.2.3 167838211 0xa010203 172.16.0.1 192.168.1.1
169.254.169.254 100.64.0.1 198.18.0.1 198.19.255.255 192.0.0.1 192.0.2.1 192.88.99.1 203.0.113.1
224.0.0.1 240.0.0.1 255.255.255.255 :: ::10.0.0.1 ::8.8.8.8 ::ffff:10.0.0.1 ::ffff:0:10.0.0.1
::ffff:0:8.8.8.8 2002:0a00:0001:: 2002:7f00:1:: 2002:a9fe:a9fe::1 64:ff9b::10.0.0.1
64:ff9b::a9fe:a9fe 64:ff9b:1::8.8.8.8 64:ff9b:1::10.0.0.1 2001:0:0a00:1::1 2001:db8::1 3fff::1
fe80::1 fe80::1%eth0 [fe80::1%25eth0] fec0::1 fc00::1 fd00::1 ff02::1 5f00::1 100::1 4000::1
2606:4700::5efe:10.0.0.1 2606:4700::200:5efe:10.0.0.1 printer nas.local NAS.LOCAL.
metadata.google.internal router.home.arpa %31%32%37.0.0.1 127%2e0.0.1 example%2ecom 10%2e0.0.1.
"""

PUBLIC = """
upload.apimart.ai upload.apimart.ai. xn--bcher-kva.example b\xfccher.example 8.8.8.8 8.8.8.8.
134744072 2606:4700::1111 [2606:4700::1111] ::ffff:8.8.8.8 2002:0808:0808:: 64:ff9b::8.8.8.8
2606:4700::5efe:8.8.8.8 localhost.example 127.0.0.1.example.com
"""


@pytest.mark.parametrize("host", LOOPBACK.split())
def test_loopback_in_every_spelling(host: str) -> None:
    assert is_loopback(host)
    assert not is_public(host)


@pytest.mark.parametrize("host", PRIVATE.split())
def test_a_private_host_is_neither_public_nor_loopback(host: str) -> None:
    assert not is_public(host)
    assert not is_loopback(host)


@pytest.mark.parametrize("host", PUBLIC.split())
def test_a_public_host_is_public(host: str) -> None:
    assert is_public(host)
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("pattern", "host", "is_meant"),
    [
        ("files.example", "FILES.example.", True),
        ("files.example", "a.files.example", False),
        ("*.example", "a.b.example", True),
        ("*.example", "example", False),
        ("*.example", "badexample", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "0xa010203", True),
        ("10.0.0.0/8", "::ffff:10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.0.0.0/8", "10.example", False),
        ("10.0.0.1", "10.0.0.1", True),
        ("fd00::/8", "[fd00::1]", True),
        ("*.0.0.1", "10.0.0.1", False),
        ("*.b\xfccher.example", "a.xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "B\xdcCHER.example.", True),
        ("*.b\xfccher.example", "a.bucher.example", False),
    ],
)
def test_a_pattern_matches(pattern: str, host: str, *, is_meant: bool) -> None:
    assert matches(pattern, host) == is_meant


def test_result_hosts_come_from_the_environment_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIMART_RESULT_HOSTS", "198.18.0.0/15, *.files.example")
    assert Limits().result_hosts == ("198.18.0.0/15", "*.files.example")
    assert Limits(result_hosts=["nas"]).result_hosts == ("nas",)
    assert Limits(result_hosts="nas").result_hosts == ("nas",)


@pytest.mark.parametrize("pattern", ["", "*", "http://nas", "a*b", "10.0.0.0/99", "nas:80"])
def test_a_malformed_result_host_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidArgumentError, match="result_hosts"):
        Limits(result_hosts=(pattern,))
