"""Whoever sends much lets everybody else go on."""

from __future__ import annotations

import asyncio

import pytest

from apimart_async.transport.session.turns import Turns


async def take(turns: Turns) -> None:
    if not turns.take_now():
        await turns.take()


async def test_each_round_has_so_many_turns_first_come_first_served() -> None:
    turns = Turns(3)
    taken: list[tuple[str, int]] = []

    async def send(name: str) -> None:
        for number in range(2):
            await take(turns)
            taken.append((name, number))

    tasks = [asyncio.create_task(send(name)) for name in "abcde"]
    rounds: list[int] = []
    while not all(task.done() for task in tasks):
        before = len(taken)
        await asyncio.sleep(0)
        rounds.append(len(taken) - before)
    assert max(rounds) == 3
    assert sum(rounds) == 10
    assert [name for name, number in taken if number == 0] == list("abcde")


async def test_who_is_alone_waits_for_one_way_round_only_when_its_turns_are_over() -> None:
    turns = Turns(3)
    assert [turns.take_now() for _ in range(5)] == [True, True, True, False, False]
    await asyncio.sleep(0)
    assert turns.take_now()
    for _ in range(3):
        await asyncio.sleep(0)
    assert [turns.take_now() for _ in range(4)] == [True, True, True, False]


async def test_who_gives_up_waiting_takes_no_turn() -> None:
    turns = Turns(1)
    waiting = [asyncio.create_task(turns.take()) for _ in range(5)]
    last = asyncio.create_task(turns.take())
    await asyncio.sleep(0)
    for task in waiting[1:]:
        task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting[0].done()
    assert last.done()
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]


async def test_everybody_else_goes_on_while_many_send() -> None:
    turns = Turns(2)
    others = 0

    async def send() -> None:
        for _ in range(10):
            await take(turns)

    async def go_on() -> None:
        nonlocal others
        while True:
            others += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(go_on())
    await asyncio.gather(*(send() for _ in range(8)))
    other.cancel()
    assert others >= 8 * 10 // 2
