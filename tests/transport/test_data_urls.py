"""``data:`` URLs: every valid form is decoded, everything else refused."""

from __future__ import annotations

import base64
import random
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.transport.media import data_urls

if TYPE_CHECKING:
    from collections.abc import Callable


@given(st.binary(max_size=200))
def test_encoded_content_is_decoded(content: bytes) -> None:
    url = data_urls.encode(content, "image/png")
    assert data_urls.decode(url) == content
    assert data_urls.decode(f"data:,{quote(content)}") == content
    assert data_urls.decode(f"data:;base64,{quote(base64.b64encode(content))}") == content


def test_the_url_safe_alphabet_and_both_at_once_are_decoded() -> None:
    assert data_urls.decode("data:image/png;base64,_-8=") == b"\xff\xef"
    assert data_urls.decode("data:image/png;base64,_-8/+w") == b"\xff\xef\x3f\xfb"


@pytest.mark.parametrize("lines", [False, True])
def test_large_content_is_decoded_whole(lines: bool) -> None:  # noqa: FBT001 a parameter of the test
    content = random.Random(0).randbytes(1_000_001)
    packed = (base64.encodebytes(content) if lines else base64.urlsafe_b64encode(content)).decode()
    assert data_urls.decode(f"data:image/png;base64,{packed}") == content
    assert data_urls.decode(f"data:image/png;base64,{quote(packed)}") == content
    for damaged in (packed[:500_000] + "=" + packed[500_000:], packed.rstrip("=\n")[:-2], packed + "AAA"):
        with pytest.raises(ValueError, match="not base64"):
            data_urls.decode(f"data:image/png;base64,{damaged}")


@given(st.binary(max_size=200))
def test_least_size_is_a_close_lower_bound(content: bytes) -> None:
    for url in (data_urls.encode(content, "image/png"), f"data:,{quote(content, safe='')}"):
        assert data_urls.least_size(url) <= len(content)
        assert data_urls.least_size(url) >= len(content) / 3 - 4


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,aGk=",
        "DATA:IMAGE/PNG;BASE64,aGk=",
        "data:image/png;charset=utf-8;name=a.png; base64 ,aGk=",
        "data:;base64,aG k\r\n=",
        "data:;base64,aGk",
        "data:;base64,aGk==",
        "data:;base64,aGk =\n=\n",
        "data:;base64,aGk%3D",
        "data:,hi",
        "data:text/plain;charset=utf-8,%68%69",
    ],
)
def test_every_valid_form_is_decoded(url: str) -> None:
    assert data_urls.is_data_url(url)
    assert data_urls.decode(url) == b"hi"


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("+", " "),
        lambda text: f'"{text}"',
        lambda text: f"{text.replace('+', ' ')} ",
    ],
)
def test_usual_damages_of_base64_are_repaired(damage: Callable[[str], str]) -> None:
    content = b"\x89PN" + bytes([0xFB, 0xEF, 0xBE]) * 100
    _, _, packed = data_urls.encode(content, "image/png").partition(",")
    assert "+" in packed
    assert data_urls.decode(f"data:image/png;base64,{damage(packed)}") == content


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,aGk!", "not base64"),
        ("data:image/png;base64,aGk=aGk=", "not base64"),
        ("data:image/png;base64,a=Gk", "not base64"),
        ("data:image/png;base64,a", "not base64"),
        ("data:image/png;base64,_-*=", "not base64"),
        ("data:image/png;base64,äöü=", "not ASCII"),
        ("data:,%4", "hexadecimal"),
        ("data:,100%", "hexadecimal"),
    ],
)
def test_malformed_url_is_refused(url: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        data_urls.decode(url)


@given(st.text(max_size=80))
def test_any_text_is_decoded_or_refused(text: str) -> None:
    try:
        data_urls.decode(f"data:image/png;base64,{text}")
    except ValueError:
        return
    assert text.isascii()
