"""File work in a folder: on the event loop only where it was measured to be quick."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from apimart_async.transport.files.folder import Folder, folder_at

if TYPE_CHECKING:
    from pathlib import Path

CALLS = 8


async def earn_trust(folder: Folder) -> bool:
    # A busy machine makes some of them slow.
    for _ in range(2 * CALLS):
        await folder.call(abs, -1)
    return folder.is_quick


async def trusted(suspicion: float = 60.0) -> Folder:
    folder = Folder(quick=0.02, suspicion=suspicion)
    assert await earn_trust(folder)
    return folder


def dawdle(seconds: float = 0.25) -> int:
    time.sleep(seconds)
    return threading.get_ident()


async def test_a_folder_that_is_not_known_is_worked_in_from_a_thread() -> None:
    folder = Folder()
    assert not folder.is_quick
    assert await folder.call(threading.get_ident) != threading.get_ident()


async def test_after_some_quick_calls_it_is_worked_in_on_the_loop() -> None:
    folder = await trusted()
    assert await folder.call(threading.get_ident) == threading.get_ident()


async def test_one_very_slow_call_sends_it_back_to_a_thread_for_a_while() -> None:
    folder = await trusted()
    assert await folder.call(dawdle) == threading.get_ident()
    for _ in range(CALLS):
        assert await folder.call(threading.get_ident) != threading.get_ident()


async def test_so_do_many_that_are_a_little_slow_and_not_a_few() -> None:
    folder = Folder(quick=0.05)
    assert await earn_trust(folder)
    places = [await folder.call(dawdle, 0.2) for _ in range(5)]
    assert places[:3] == [threading.get_ident()] * 3
    assert places[4] != threading.get_ident()


async def test_after_that_while_it_is_trusted_again() -> None:
    folder = await trusted(suspicion=0.05)
    await folder.call(dawdle)
    await asyncio.sleep(0.1)
    assert await folder.call(threading.get_ident) != threading.get_ident()
    assert await earn_trust(folder)
    assert await folder.call(threading.get_ident) == threading.get_ident()


async def test_each_time_trust_is_lost_it_takes_longer() -> None:
    folder = await trusted(suspicion=0.3)
    trusted_again: list[bool] = []
    for is_slow in (True, True, False):
        if is_slow:
            await folder.call(dawdle)
        await asyncio.sleep(0.35)
        trusted_again.append(await earn_trust(folder))
    assert trusted_again == [True, False, True]


async def test_slow_calls_never_earn_trust_and_others_go_on_meanwhile() -> None:
    folder = Folder(quick=0.0005)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    for _ in range(CALLS):
        await folder.call(dawdle, 0.05)
    ticking.cancel()
    assert not folder.is_quick
    assert ticks >= CALLS


async def test_errors_come_out_as_themselves_from_both(tmp_path: Path) -> None:
    for folder in (Folder(), await trusted()):
        with pytest.raises(FileNotFoundError):
            await folder.call(os.stat, tmp_path / "missing")


def test_a_path_has_one_folder(tmp_path: Path) -> None:
    assert folder_at(str(tmp_path)) is folder_at(str(tmp_path))
    assert folder_at(str(tmp_path)) is not folder_at(str(tmp_path / "other"))
