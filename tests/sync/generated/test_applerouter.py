# Written by tests/sync/generate_tests.py from tests/resources/test_applerouter.py: change that file instead.

"""Edits of AppleRouter: results, published limits, errors and the client."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image as Pillow

from apimart_async import (
    AppleRouter,
    AuthenticationError,
    BadRequestError,
    DownloadError,
    ImageError,
    ImageSet,
    ImageTooLargeError,
    InvalidArgumentError,
    RateLimitError,
    Retry,
    SubmissionIndeterminateError,
    UnsupportedImageError,
    prepare_png,
)
from ..emulator import Emulator, Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def png(size: tuple[int, int] = (64, 64), *, mode: str = "RGBA", hole: bool = True) -> bytes:
    """Draw a PNG whose left half is transparent."""
    image = Pillow.new(mode, size, (200, 80, 40, 255)[: len(mode)])
    if hole:
        image.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def large_png() -> bytes:
    """Return a square PNG with transparency of more than 4 MB: its pixels are not compressed."""
    file = io.BytesIO()
    Pillow.new("RGBA", (1025, 1025), (0, 0, 0, 0)).save(file, "PNG", compress_level=0)
    return file.getvalue()


PNG = png()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(task_seconds=0.02) as running:
        yield running


@pytest.fixture
def router(emulator: Emulator) -> Iterator[AppleRouter]:
    retry = Retry(initial_delay=0.01, max_delay=0.02)
    with AppleRouter(emulator.api_key, base_url=emulator.base_url, retry=retry) as connected:
        yield connected


# --- results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("response_format", [None, "url", "b64_json"])
def test_results_can_be_saved_like_those_of_a_task(
    router: AppleRouter, emulator: Emulator, tmp_path: Path, response_format: Any
) -> None:
    result = router.edits.create(PNG, "a red hat", n=2, size="256x256", response_format=response_format)
    assert isinstance(result, ImageSet)
    assert len(result.images) == 2
    assert all(image.url.startswith("data:") is (response_format == "b64_json") for image in result.images)
    assert result.raw["data"]
    paths = router.images.save(result, tmp_path)
    stem = str(int(result.created.timestamp()))
    assert [path.name for path in paths] == [f"{stem}-1.png", f"{stem}-2.png"]
    for path in paths:
        with Pillow.open(path) as picture:
            assert picture.size == (256, 256)
    assert paths[0].read_bytes() == router.images.read(result.images[0])
    (entry,) = emulator.ledger.entries
    assert (entry.endpoint, entry.model, entry.images) == ("applerouter", "dall-e-2", 2)
    assert not emulator.key_leaks


def test_mask_limits_the_edit(router: AppleRouter) -> None:
    opaque = png(mode="RGB", hole=False)
    result = router.edits.create(opaque, "a red hat", mask=PNG, model="another")
    edited = Pillow.open(io.BytesIO(router.images.read(result.images[0]))).convert("RGB")
    assert edited.getpixel((60, 32)) == (200, 80, 40)
    assert edited.getpixel((4, 32)) != (200, 80, 40)


def test_every_form_of_an_image_is_accepted(router: AppleRouter, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    url = "data:image/png;base64," + base64.b64encode(PNG).decode()
    with Pillow.open(path) as opened:
        forms: list[Any] = [path, str(path), PNG, bytearray(PNG), io.BytesIO(PNG), opened, url, [path]]
        for form in forms:
            assert (router.edits.create(form, "a red hat")).images


def test_other_models_have_other_limits(
    router: AppleRouter, emulator: Emulator, photographs: dict[str, Path]
) -> None:
    result = router.edits.create(
        [photographs["rocket.jpg"], photographs["chelsea.png"], PNG],
        "together " * 200,
        model="gpt-image-2",
        size="1536x1024",
        extra_body={"quality": "high", "background": "opaque"},
    )
    edited = Pillow.open(io.BytesIO(router.images.read(result.images[0])))
    assert edited.size == (1536, 1024)
    assert emulator.ledger.entries[0].model == "gpt-image-2"


@pytest.mark.parametrize(
    "changes",
    [
        {"image": PNG, "mask": PNG},
        {"image": png(mode="RGB", hole=False), "mask": PNG},
        {"prompt": "a" * 1000},
        {"size": "1024x1024"},
    ],
)
def test_values_at_the_limits_are_accepted(router: AppleRouter, changes: dict[str, Any]) -> None:
    assert (router.edits.create(**{"image": PNG, "prompt": "a red hat"} | changes)).images


def test_opaque_image_with_alpha_channel_is_not_sent(
    router: AppleRouter, emulator: Emulator
) -> None:
    with pytest.raises(ImageError, match="has no transparency"):
        router.edits.create(png(hole=False), "a red hat")
    assert not emulator.requests
    assert (router.edits.create(png(hole=False), "a red hat", mask=PNG)).images


# --- errors -----------------------------------------------------------------------------------------------


def test_refusal_is_raised_with_its_details(router: AppleRouter, emulator: Emulator) -> None:
    with pytest.raises(BadRequestError, match="rejected as a result") as caught:
        router.edits.create(PNG, "moderated")
    error = caught.value
    assert (error.status, error.code, error.type) == (
        400,
        "content_policy_violation",
        "invalid_request_error",
    )
    assert error.request_id
    assert error.url == f"{emulator.base_url}/v1/images/edits/"
    assert len(emulator.requests) == 1


def test_wrong_key_is_an_authentication_error(emulator: Emulator) -> None:
    with AppleRouter("sk-wrong", base_url=emulator.base_url) as router:
        with pytest.raises(AuthenticationError, match="Incorrect API key") as caught:
            router.edits.create(PNG, "a red hat")
    assert caught.value.code == "invalid_api_key"


def test_exhausted_quota_is_not_retried(router: AppleRouter, emulator: Emulator) -> None:
    emulator.faults.add(
        Fault(kind="status", route="applerouter", status=429, code="insufficient_quota", retry_after=0)
    )
    with pytest.raises(RateLimitError) as caught:
        router.edits.create(PNG, "a red hat")
    assert caught.value.code == "insufficient_quota"
    assert len(emulator.requests) == 1


def test_rate_limit_is_obeyed() -> None:
    with Emulator(task_seconds=0, rate_limit=5) as emulator:
        with AppleRouter(emulator.api_key, base_url=emulator.base_url) as router:
            for _ in range(7):
                assert (router.edits.create(PNG, "a red hat", size="256x256")).images
        assert len(emulator.ledger.entries) == 7
        statuses = [request.status for request in emulator.requests]
    assert statuses.count(200) == 7


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind="disconnect", route="applerouter"),
        Fault(kind="disconnect", route="applerouter", executed=True),
        Fault(kind="truncated", route="applerouter"),
        Fault(kind="empty", route="applerouter"),
        Fault(kind="broken-json", route="applerouter"),
        Fault(kind="html", route="applerouter", status=502),
        Fault(kind="html", route="applerouter", status=200),
        Fault(kind="status", route="applerouter", status=500, executed=True),
        Fault(kind="status", route="applerouter", status=503),
    ],
    ids=lambda fault: f"{fault.kind}-{fault.status}-{fault.executed}",
)
@pytest.mark.parametrize("indeterminate", ["raise", "same-key"])
def test_request_of_unknown_outcome_is_never_sent_again(
    emulator: Emulator, fault: Fault, indeterminate: Any
) -> None:
    """The service has no idempotency keys, so the option to rely on them changes nothing."""
    emulator.faults.add(fault)
    retry = Retry(initial_delay=0.01, indeterminate=indeterminate)
    with AppleRouter(emulator.api_key, base_url=emulator.base_url, retry=retry) as router:
        with pytest.raises(SubmissionIndeterminateError, match="not sent again") as caught:
            router.edits.create(PNG, "a red hat")
    assert caught.value.idempotency_key is None
    assert "idempotency" not in caught.value.message
    assert len(emulator.requests) == 1
    assert len(emulator.ledger.entries) <= 1


def test_expired_result_is_a_download_error(
    router: AppleRouter, emulator: Emulator, tmp_path: Path
) -> None:
    result = router.edits.create(PNG, "a red hat", size="256x256")
    emulator.advance(25 * 3600)
    with pytest.raises(DownloadError, match="expired"):
        router.images.save(result, tmp_path)
    assert not list(tmp_path.iterdir())


# --- the client -------------------------------------------------------------------------------------------


def test_environment_configures_the_client(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APPLEROUTER_API_KEY", emulator.api_key)
    monkeypatch.setenv("APPLEROUTER_BASE_URL", f"{emulator.base_url}/v1/")
    with AppleRouter() as router:
        assert router.base_url == emulator.base_url
        assert (router.edits.create(PNG, "a red hat")).images
    monkeypatch.delenv("APPLEROUTER_API_KEY")
    with pytest.raises(InvalidArgumentError, match="APPLEROUTER_API_KEY"):
        AppleRouter()


def test_copy_shares_connections_and_has_its_own_options(emulator: Emulator) -> None:
    with AppleRouter("sk-wrong", base_url=emulator.base_url) as router:
        copy = router.with_options(api_key=emulator.api_key, default_headers={"X-Team": "a"})
        assert (copy.edits.create(PNG, "a red hat")).images
        with pytest.raises(AuthenticationError):
            router.edits.create(PNG, "a red hat")
    assert emulator.most_connections == 1
    assert emulator.api_key not in repr(copy)


def test_callable_key_is_called_for_each_request(emulator: Emulator) -> None:
    keys = iter([emulator.api_key, "sk-revoked"])

    def fetch() -> str:
        return next(keys)

    with AppleRouter(fetch, base_url=emulator.base_url) as router:
        assert (router.edits.create(PNG, "a red hat")).images
        with pytest.raises(AuthenticationError):
            router.edits.create(PNG, "a red hat")
