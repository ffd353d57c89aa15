"""``data:`` URLs: every valid form is decoded, everything else refused."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apimart_async.transport.media import data_urls


@given(st.binary(max_size=200))
def test_encoded_content_is_decoded(content: bytes) -> None:
    url = data_urls.encode(content, "image/png")
    assert data_urls.decode(url) == content
    assert data_urls.decode(f"data:,{quote(content)}") == content
    assert data_urls.decode(f"data:;base64,{quote(base64.b64encode(content))}") == content


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
        "data:;base64,aGk%3D",
        "data:,hi",
        "data:text/plain;charset=utf-8,%68%69",
    ],
)
def test_every_valid_form_is_decoded(url: str) -> None:
    assert data_urls.is_data_url(url)
    assert data_urls.decode(url) == b"hi"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,aGk!", "not base64"),
        ("data:image/png;base64,aGk==", "not base64"),
        ("data:image/png;base64,aGk=aGk=", "not base64"),
        ("data:image/png;base64,=", "not base64"),
        ("data:image/png;base64,a", "not base64"),
        ("data:image/png;base64,_-8=", "not base64"),
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
