"""Mirrors: further addresses of an emulator that share its state, and that come and go."""

from __future__ import annotations

import ssl

import aiohttp
import pytest
import trustme

from apimart_async.emulator import Emulator, Fault

HEADERS = {"Authorization": "Bearer sk-emulator"}
EDIT = {"model": "grok-imagine-1.0-edit-apimart", "prompt": "snow", "image_urls": ["https://a.example/a.png"]}


async def test_a_mirror_shares_tasks_and_ledger_and_names_the_files_of_its_emulator() -> None:
    async with Emulator(task_seconds=0.01, images="tiny") as emulator, emulator.mirror() as mirror:
        async with aiohttp.ClientSession(headers=HEADERS) as session:
            async with session.post(f"{mirror.base_url}/v1/images/edits", json=EDIT) as answer:
                task_id = (await answer.json())["data"][0]["task_id"]
            emulator.advance(60)
            async with session.get(f"{emulator.base_url}/v1/tasks/{task_id}") as answer:
                assert (await answer.json())["data"]["status"] == "completed"
            async with session.get(f"{mirror.base_url}/v1/tasks/{task_id}") as answer:
                (image,) = (await answer.json())["data"]["result"]["images"]
        assert image["url"][0].startswith(emulator.base_url)
        assert len(emulator.ledger.entries) == 1
        first, second, third = (f"http://{seen.host}" for seen in emulator.requests)
        assert (first, second, third) == (mirror.base_url, emulator.base_url, mirror.base_url)


async def test_a_mirror_that_is_stopped_refuses_connections_and_starts_at_the_same_address() -> None:
    async with Emulator() as emulator, emulator.mirror() as mirror, aiohttp.ClientSession() as session:
        base_url = mirror.base_url
        mirror.stop()
        mirror.stop()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(base_url)
        mirror.start()
        mirror.start()
        async with session.get(f"{base_url}/v1/models", headers=HEADERS) as answer:
            assert answer.status == 200
        assert mirror.base_url == base_url


async def test_a_stop_resets_requests_under_way() -> None:
    async with Emulator() as emulator, emulator.mirror() as mirror, aiohttp.ClientSession() as session:
        emulator.faults.add(Fault(kind="stalled", route="account", seconds=3600))
        async with session.get(f"{mirror.base_url}/v1/balance", headers=HEADERS) as answer:
            mirror.stop()
            with pytest.raises(aiohttp.ClientError):
                await answer.read()


async def test_a_mirror_with_tls_shows_its_certificate() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    async with Emulator() as emulator, emulator.mirror(context) as mirror, aiohttp.ClientSession() as session:
        assert mirror.base_url.startswith("https://")
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(mirror.base_url)
        async with session.get(f"{mirror.base_url}/v1/models", headers=HEADERS, ssl=False) as answer:
            assert answer.status == 200


async def test_an_emulator_that_does_not_run_has_no_mirror() -> None:
    with pytest.raises(RuntimeError, match="does not run"):
        async with Emulator().mirror():
            pass
