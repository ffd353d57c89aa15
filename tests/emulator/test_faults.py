"""Faults are scheduled and parsed without an emulator."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from apimart_async.emulator import Fault, Faults, load_faults
from apimart_async.emulator.faults import KINDS, fault_as_json, is_due, parse_faults

if TYPE_CHECKING:
    from pathlib import Path


def injected(fault: Fault, count: int = 10) -> list[int]:
    """Return the numbers, from 1, of those among `count` requests that get the fault."""
    faults = Faults(7)
    faults.add(fault)
    return [number for number in range(1, count + 1) if faults.decide("edits", reused=False)]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, list(range(1, 11))),
        ({"first": 3}, [1, 2, 3]),
        ({"every": 4}, [4, 8]),
        ({"times": 2}, [1, 2]),
        ({"every": 3, "times": 2}, [3, 6]),
        ({"every": 2, "first": 5}, [2, 4]),
        ({"probability": 0}, []),
        ({"route": "edits"}, list(range(1, 11))),
        ({"route": "uploads"}, []),
        ({"reused": True}, []),
    ],
)
def test_a_fault_is_injected_as_often_as_its_options_say(
    options: dict[str, Any], expected: list[int]
) -> None:
    assert injected(Fault(kind="disconnect", **options)) == expected


def test_probability_follows_the_seed() -> None:
    fault = Fault(kind="status", probability=0.1)
    numbers = injected(fault, 5000)
    assert numbers == injected(fault, 5000)
    assert len(numbers) == pytest.approx(500, abs=90)
    assert is_due(fault, matched=1, happened=0, chance=0.099)
    assert not is_due(fault, matched=1, happened=0, chance=0.1)


def test_only_the_first_due_fault_is_injected() -> None:
    faults = Faults()
    first, second = Fault(kind="status", every=2), Fault(kind="hang")
    faults.add(first, second)
    assert [faults.decide("tasks", reused=False) for _ in range(4)] == [second, first, second, first]
    assert faults.happened == [(first, 2), (second, 2)]
    assert list(faults) == [first, second]
    faults.clear()
    assert faults.decide("tasks", reused=False) is None


def test_reused_faults_need_a_used_connection() -> None:
    faults = Faults()
    faults.add(Fault(kind="disconnect", reused=True))
    assert faults.decide("edits", reused=False) is None
    assert faults.decide("edits", reused=True) is not None


def test_control_paths_get_no_faults() -> None:
    faults = Faults()
    faults.add(Fault(kind="status"))
    assert faults.decide("controls", reused=False) is None


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"kind": "earthquake"}, "kind"),
        ({"kind": "status", "route": "everywhere"}, "route"),
        ({"kind": "task-stuck", "route": "uploads"}, "task-stuck does not happen at uploads"),
        ({"kind": "cut-image", "route": "edits"}, "cut-image does not happen at edits"),
        ({"kind": "status", "probability": 1.5}, "probability must be a number from 0 to 1"),
        ({"kind": "status", "probability": "0.5"}, "probability must be a number"),
        ({"kind": "status", "first": 0}, "first must be a whole number of at least 1"),
        ({"kind": "status", "every": 2.5}, "every must be a whole number"),
        ({"kind": "status", "times": True}, "times must be a whole number"),
        ({"kind": "status", "executed": 1}, "executed must be true or false"),
        ({"kind": "hang", "seconds": -1}, "seconds must be a number"),
        ({"kind": "status", "retry_after": -1}, "retry_after must be a number"),
        ({"kind": "status", "message": 5}, "message must be text"),
        ({"kind": "gigantic", "size": None}, "size must be a whole number"),
    ],
)
def test_invalid_options_are_refused(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Fault(**options)
    with pytest.raises(ValueError, match="fault 1: .*" + complaint):
        parse_faults([options])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ("status", "must be a list"),
        ([3], "fault 1 must be an object"),
        ([{"kind": "status"}, {"route": "edits"}], "fault 2: kind is required"),
        (
            [{"kind": "status", "propability": 1}],
            "fault 1: unknown field propability; known: .*probability",
        ),
        ({"faults": 3}, "must be a list"),
    ],
)
def test_errors_name_the_malformed_fault(value: object, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_faults(value)


def test_faults_round_trip_through_json() -> None:
    faults = [Fault(kind=kind) for kind in KINDS]
    faults.append(Fault(kind="status", route="edits", status=429, retry_after=3, every=2, executed=True))
    shown = json.loads(json.dumps([fault_as_json(fault) for fault in faults]))
    assert list(parse_faults(shown)) == faults
    assert shown[0] == {"kind": "status"}
    assert parse_faults({"kind": "hang"}) == (Fault(kind="hang"),)


def test_faults_are_read_from_files(tmp_path: Path) -> None:
    expected = (Fault(kind="status", status=429, retry_after=2, probability=0.1), Fault(kind="hang", times=1))
    toml, plain = tmp_path / "faults.toml", tmp_path / "faults.json"
    toml.write_text(
        '[[faults]]\nkind = "status"\nstatus = 429\nretry_after = 2\nprobability = 0.1\n'
        '[[faults]]\nkind = "hang"\ntimes = 1\n'
    )
    plain.write_text(json.dumps([fault_as_json(fault) for fault in expected]))
    assert load_faults(toml) == load_faults(plain) == expected
    for path in (toml, plain):
        path.write_text("[[")
        with pytest.raises(ValueError, match=path.name):
            load_faults(path)
    with pytest.raises(FileNotFoundError):
        load_faults(tmp_path / "missing.json")


def test_an_unknown_kind_or_route_is_named_in_the_error() -> None:
    options: list[dict[str, Any]] = [{"kind": "explode"}, {"kind": "hang", "route": "explode"}]
    for each in options:
        with pytest.raises(ValueError, match=r"^(kind|route) must be one of .*, not 'explode'$") as raised:
            Fault(**each)
        assert len(raised.value.args) == 1
