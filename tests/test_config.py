from __future__ import annotations

import pickle
import subprocess
import sys
import traceback

import pytest

from apimart_async import AsyncApimart, AsyncAppleRouter, InvalidArgumentError, Limits, Poll, Retry, Timeout
from apimart_async.sync import Apimart, AppleRouter


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APIMART_API_KEY", raising=False)
    monkeypatch.delenv("APIMART_BASE_URL", raising=False)


@pytest.mark.parametrize("key", [None, "", "   ", "\n"])
def test_the_error_for_a_missing_key_names_the_variable_and_the_emulator(key: str | None) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"pass api_key=… or set APIMART_API_KEY.*apimart emulator"
    ):
        AsyncApimart(key)


@pytest.mark.parametrize("key", ["sk-\r\nHost: evil", "sk with space", "schlüssel"])
def test_the_error_for_an_invalid_key_does_not_show_it(key: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        AsyncApimart(key)
    assert key not in str(caught.value)


def test_key_and_base_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APIMART_API_KEY", " sk-env \n")
    monkeypatch.setenv("APIMART_BASE_URL", "https://mirror.example/v1/")
    assert AsyncApimart().base_url == "https://mirror.example"
    assert AsyncApimart(base_url="https://other.example").base_url == "https://other.example"


@pytest.mark.parametrize(
    "url",
    ["api.apimart.ai", "ftp://x.example", "https://", "https://me:pw@x.example", "https://x.example/?k=1"],
)
def test_an_invalid_base_url_raises(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url"):
        AsyncApimart("sk-test", base_url=url)


def test_the_error_for_a_setting_out_of_range_names_the_field() -> None:
    with pytest.raises(InvalidArgumentError, match=r"Timeout\.connect must be more than 0, not 0"):
        Timeout(connect=0)
    with pytest.raises(InvalidArgumentError, match=r"Limits\.connections"):
        Limits(connections=-1)
    with pytest.raises(InvalidArgumentError, match=r"Retry\.initial_delay"):
        Retry(initial_delay=float("nan"))
    with pytest.raises(InvalidArgumentError, match=r"Poll\.timeout"):
        Poll(timeout=0)
    with pytest.raises(InvalidArgumentError, match="max_retries"):
        AsyncApimart("sk-test", max_retries=-1)


def test_a_header_with_invalid_characters_raises() -> None:
    with pytest.raises(InvalidArgumentError, match="line break"):
        AsyncApimart("sk-test", default_headers={"X-Team": "a\r\nAuthorization: b"})
    with pytest.raises(InvalidArgumentError, match="name of a header"):
        AsyncApimart("sk-test", default_headers={"X Team:": "a"})


@pytest.mark.parametrize("name", ["Idempotency-Key", "accept-encoding", "Transfer-Encoding"])
def test_a_header_that_the_package_sets_raises(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match=f"The header {name} cannot be given"):
        AsyncApimart("sk-test", default_headers={name: "a"})


def test_a_client_hides_its_key_and_cannot_be_pickled() -> None:
    client = AsyncApimart("sk-secret")
    assert "sk-secret" not in repr(client)
    assert "sk-secret" not in repr(client._settings)
    with pytest.raises(InvalidArgumentError, match="pickled"):
        pickle.dumps(client)


def test_importing_the_package_does_not_import_aiohttp() -> None:
    code = (
        "import sys, apimart_async; from apimart_async import Task, RateLimitError;"
        "sys.exit('aiohttp' in sys.modules or 'yarl' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_every_public_name_can_be_imported() -> None:
    import apimart_async

    for name in apimart_async.__all__:
        assert getattr(apimart_async, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = apimart_async.Nothing


@pytest.mark.parametrize(
    "name",
    [
        *(
            "Host",
            "Content-Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "TE",
            "Trailer",
            "Upgrade",
        ),
        *("Expect", "Proxy-Connection", "Proxy-Authorization", "Content_Length", "transfer_encoding", "hOST"),
    ],
)
def test_headers_of_the_connection_cannot_be_given(name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="cannot be given"):
        AsyncApimart("sk-test", default_headers={name: "x"})


@pytest.mark.parametrize(
    "url",
    [
        "me:hunter2@api.example",
        "https://me:hunter2@[::1",
        "https://me:hunter2@api.example:99999",
        "ftp://me:hunter2@h",
        "https://me:hunter2@api.example",
    ],
)
def test_a_base_url_with_a_password_is_refused_without_it(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url") as raised:
        AsyncApimart("sk-test", base_url=url)
    assert "hunter2" not in "".join(traceback.format_exception(raised.value))


def test_several_base_urls_come_as_a_list_or_with_commas(monkeypatch: pytest.MonkeyPatch) -> None:
    both = ("https://a.example", "https://b.example/api")
    assert AsyncApimart("sk-test", base_url=list(both)).base_urls == both
    assert AsyncApimart("sk-test", base_url="https://a.example, https://b.example/api/v1/").base_urls == both
    monkeypatch.setenv("APIMART_BASE_URL", "https://a.example,https://b.example/api,")
    client = AsyncApimart("sk-test")
    assert client.base_urls == client.with_options(max_retries=0).base_urls == both
    assert client.base_url == both[0]
    assert repr(client) == "AsyncApimart(base_url=['https://a.example', 'https://b.example/api'])"


def test_a_base_url_in_two_spellings_counts_once() -> None:
    spellings = ["https://API.example:443/v1", "https://api.example/", "https://api.example"]
    assert AsyncApimart("sk-test", base_url=spellings).base_urls == ("https://api.example",)
    assert AsyncApimart("sk-test", base_url="http://[::1]:80").base_url == "http://[::1]"


@pytest.mark.parametrize(
    "base_urls",
    [[], ["https://a.example", ""], ["https://a.example,ftp://b.example"], ["https://a.example:x"]],
)
def test_one_invalid_base_url_among_several_raises(base_urls: list[str]) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url must look like"):
        AsyncApimart("sk-test", base_url=base_urls)


def test_addresses_with_and_without_tls_do_not_mix() -> None:
    mixed = ["https://a.example", "http://b.example"]
    with pytest.raises(InvalidArgumentError, match="unencrypted"):
        AsyncApimart("sk-test", base_url=mixed)
    with pytest.raises(InvalidArgumentError, match="mixes https:// and http://"):
        AsyncApimart("sk-test", base_url=mixed, allow_http=True)
    assert AsyncApimart("sk-test", base_url=["http://127.0.0.1:1", "https://a.example"]).base_urls
    plain = ["http://a.example", "http://b.example"]
    assert AsyncApimart("sk-test", base_url=plain, allow_http=True).base_urls == tuple(plain)


def test_a_proxy_elsewhere_must_not_see_the_key_of_any_address() -> None:
    with pytest.raises(InvalidArgumentError, match="proxy would see the API key"):
        AsyncApimart(
            "sk-test",
            base_url=["https://a.example", "http://127.0.0.1:1"],
            proxy="http://proxy.example:3128",
        )


@pytest.mark.parametrize(
    "url",
    [
        "https://a.example;https://b.example",
        "https://a.example https://b.example",
        "https://a.example\nhttps://b.example",
        "https://a.example\t.evil.example",
        "https://evil.example\\.a.example",
        "https://a..example",
        "https://\u202ea.example",
        "https://a\u200b..example",
        "https://\udcff.example",
        "https://a.example/\x0bb",
        "https://a.example/a b",
        "https://a.example/\u00e9",
    ],
)
def test_a_base_url_that_would_lead_elsewhere_raises(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("APIMART_BASE_URL", url)
    with pytest.raises(InvalidArgumentError, match="base_url must look like"):
        AsyncApimart("sk-test")


def test_a_base_url_is_kept_as_its_host_is_looked_up() -> None:
    assert (
        AsyncApimart("sk-test", base_url="https://b\u00fccher.example").base_url
        == "https://xn--bcher-kva.example"
    )
    assert AsyncApimart("sk-test", base_url="http://\u2460\u2461\u2466.0.0.1").base_url == "http://127.0.0.1"


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pass-word@a.example:99999",
        "https://user:pass-word@[a.example",
        "user:pass-word@a.example",
        "ftp://user:pass-word@a.example",
        "sk-pass-word",
    ],
)
def test_an_invalid_base_url_is_not_repeated_if_it_may_hold_a_secret(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base_url") as caught:
        AsyncApimart("sk-test", base_url=url)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("key", ["\udcff\udcff", "k" * 8193, "a\x01b"], ids=["no text", "long", "control"])
def test_a_key_that_no_header_carries_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("APIMART_API_KEY", key)
    with pytest.raises(InvalidArgumentError, match="API key is blank, has more than 8,192 characters, or"):
        AsyncApimart()


def test_a_client_that_cannot_be_made_can_be_shown() -> None:
    for kind in (AsyncApimart, AsyncAppleRouter, Apimart, AppleRouter):
        assert repr(object.__new__(kind)) == f"{kind.__name__}(…)"


@pytest.mark.parametrize("host", ["a;b", "..", "a..b", "\udcff", "\x1b[31m", "*"])
def test_result_hosts_that_are_none_raise(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("APIMART_RESULT_HOSTS", host)
    with pytest.raises(InvalidArgumentError, match="result_hosts"):
        AsyncApimart("sk-test")
