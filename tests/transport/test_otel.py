"""OpenTelemetry: spans and metrics with the names of the semantic conventions, and no secrets in them."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import anyio.to_thread
import attrs
import pytest
from opentelemetry import baggage, context
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from PIL import Image

from apimart_async import (
    ApimartError,
    AsyncApimart,
    BadRequestError,
    EventHooks,
    Job,
    Poll,
    Retry,
    TaskFailedError,
    edit_many,
    otel,
)
from apimart_async.emulator import Emulator
from apimart_async.emulator.faults import Fault
from apimart_async.sync import AppleRouter

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from opentelemetry.sdk.trace import ReadableSpan

    from .conftest import Exchange, RawServer

KEY = "sk-very-secret-0123456789"
PROMPT = "a prompt nobody else should read"
GIF = b"GIF89a" + bytes([1, 0, 1, 0, 0, 0, 0, 0x3B])
MODEL = "grok-imagine-1.0-edit-apimart"


@attrs.define
class Telemetry:
    """Keeps spans and metrics in memory."""

    tracer_provider: TracerProvider = attrs.field(factory=TracerProvider)
    exporter: InMemorySpanExporter = attrs.field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = attrs.field(factory=InMemoryMetricReader)
    meter_provider: MeterProvider = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meter_provider = MeterProvider(metric_readers=[self.reader])

    def hooks(self, **options: Any) -> EventHooks:
        return otel.event_hooks(
            tracer_provider=self.tracer_provider, meter_provider=self.meter_provider, **options
        )

    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def points(self) -> dict[str, list[Any]]:
        """Return the data points of each metric."""
        data = self.reader.get_metrics_data()
        assert data is not None
        metrics = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return {metric.name: list(metric.data.data_points) for metric in metrics}

    def total(self, name: str) -> float:
        """Return the sum of a counter."""
        return float(sum(point.value for point in self.points().get(name, [])))


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
async def emulator() -> AsyncIterator[Emulator]:
    async with Emulator(task_seconds=0.02, images="tiny", api_key=KEY) as running:
        yield running


def connected(emulator: Emulator, *hooks: EventHooks, **options: Any) -> AsyncApimart:
    options = {"poll": Poll(first=0.02, shortest=0.02), "retry": Retry(initial_delay=0.001), **options}
    return AsyncApimart(KEY, base_url=emulator.base_url, event_hooks=hooks, check="off", **options)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return int(span.context.span_id)


async def test_an_edit_is_a_span_and_each_of_its_requests_a_child(
    emulator: Emulator, telemetry: Telemetry
) -> None:
    async with connected(emulator, telemetry.hooks()) as client:
        with telemetry.tracer_provider.get_tracer("mine").start_as_current_span("mine"):
            task = await client.edits.run(GIF, PROMPT)
    *requests, edit, mine = telemetry.spans()
    names = [span.name for span in requests]
    assert names[:2] == ["POST /v1/uploads/images", "POST /v1/images/edits"]
    assert set(names[2:]) == {"GET /v1/tasks/{task_id}"}
    assert {parent_id(span) for span in requests} == {span_id(edit)}
    assert parent_id(edit) == span_id(mine)
    assert (edit.name, edit.kind) == (f"generate_content {MODEL}", SpanKind.CLIENT)
    port = int(emulator.base_url.rpartition(":")[2])
    assert attributes(edit) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.output.type": "image",
        "gen_ai.provider.name": "apimart",
        "gen_ai.request.model": MODEL,
        "gen_ai.response.id": task.id,
        "apimart.cost": task.cost,
        "apimart.operation": "edit",
        "apimart.task.status": "completed",
        "server.address": "127.0.0.1",
        "server.port": port,
    }
    submit = attributes(requests[1])
    assert submit.pop("apimart.request_id")
    assert submit == {
        "apimart.idempotency_key": task.idempotency_key,
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "server.address": "127.0.0.1",
        "server.port": port,
        "url.full": f"{emulator.base_url}/v1/images/edits",
        "url.template": "/v1/images/edits",
    }


async def test_metrics_of_an_edit(emulator: Emulator, telemetry: Telemetry) -> None:
    emulator.faults.add(Fault(kind="status", route="account", status=429, times=2, retry_after=0))
    async with connected(emulator, telemetry.hooks()) as client:
        task = await client.edits.run(GIF, PROMPT)
        await client.account.balance()
    assert task.cost is not None
    assert telemetry.total("apimart.client.cost") == pytest.approx(task.cost)
    assert telemetry.total("apimart.client.tasks") == 1
    assert telemetry.total("apimart.client.retries") == 2
    assert telemetry.total("apimart.client.rate_limited") == 2
    assert telemetry.total("apimart.client.poll_requests") >= 1
    assert telemetry.total("apimart.client.active_operations") == 0
    points = telemetry.points()
    assert [point.count for point in points["gen_ai.client.operation.duration"]] == [1]
    assert [point.count for point in points["apimart.client.task.duration"]] == [1]
    assert points["http.client.request.duration"][0].explicit_bounds[0] == 0.005
    by_status = {point.attributes.get("error.type") for point in points["http.client.request.duration"]}
    assert by_status == {None, "429"}


async def test_a_retry_has_its_number_and_the_failed_attempt_its_error(
    emulator: Emulator, telemetry: Telemetry
) -> None:
    emulator.faults.add(Fault(kind="status", route="account", status=503, times=1))
    async with connected(emulator, telemetry.hooks()) as client:
        await client.account.balance()
    first, second = telemetry.spans()
    assert attributes(first)["error.type"] == "503"
    assert first.status.status_code is StatusCode.ERROR
    assert "http.request.resend_count" not in attributes(first)
    assert attributes(second)["http.request.resend_count"] == 1
    assert second.status.status_code is StatusCode.UNSET


async def test_a_failed_edit_shows_no_words_of_the_prompt(emulator: Emulator, telemetry: Telemetry) -> None:
    emulator.faults.add(Fault(kind="task-failed", route="edits", message=f"refused: {PROMPT}", times=1))
    async with connected(emulator, telemetry.hooks()) as client:
        with pytest.raises(TaskFailedError):
            await client.edits.run(GIF, PROMPT)
        emulator.faults.add(Fault(kind="status", route="edits", status=400, message=f"refused: {PROMPT}"))
        with pytest.raises(BadRequestError):
            await client.edits.create("https://p.example/a.png?X-Signature=secret", PROMPT)
        with pytest.raises(ApimartError):
            await client.images.read(f"{emulator.base_url}/files/none.png?X-Signature=secret")
    failed, refused = [span for span in telemetry.spans() if span.name.startswith("generate_content")]
    assert attributes(failed)["error.type"] == "TaskFailedError"
    assert attributes(failed)["apimart.task.status"] == "failed"
    assert attributes(refused)["error.type"] == "BadRequestError"
    assert failed.status.status_code is refused.status.status_code is StatusCode.ERROR
    shown = "".join(span.to_json() for span in telemetry.spans()) + repr(telemetry.points())
    for secret in (KEY, PROMPT, "X-Signature"):
        assert secret not in shown


async def test_words_in_place_of_ids_codes_and_models_are_shown_nowhere(
    raw_server: RawServer, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    words = f"refused: {PROMPT}"

    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        data: Any = {"id": "task_1", "status": "failed", "model": words, "error": {"code": words}}
        if request.method == "POST":
            data = [{"task_id": "task_1", "model": words}]
        answer = {"code": 200, "data": data, "request_id": words}
        await exchange.answer(json.dumps(answer).encode(), headers={"X-Request-Id": words})

    raw_server.handle = handle
    caplog.set_level(logging.DEBUG, "apimart_async")
    ends: list[object] = []
    async with AsyncApimart(
        KEY,
        base_url=raw_server.base_url,
        poll=Poll(first=0.01, shortest=0.01),
        event_hooks=[telemetry.hooks(), EventHooks(on_response=ends.append)],
    ) as client:
        with pytest.raises(TaskFailedError):
            await client.edits.run("https://p.example/a.png", "stars")
        with pytest.raises(TaskFailedError):
            await client.tasks.wait("task_1")
    assert ends
    shown = [
        *caplog.messages,
        repr(ends),
        repr(telemetry.points()),
        *(each.to_json() for each in telemetry.spans()),
    ]
    assert PROMPT not in "".join(shown)


async def test_the_trace_context_goes_to_the_service_and_to_no_file_host(
    raw_server: RawServer, telemetry: Telemetry
) -> None:
    async def handle(exchange: Exchange) -> None:
        request = await exchange.read()
        await exchange.answer(GIF if request.path == "/image" else json.dumps({"data": []}).encode())

    raw_server.handle = handle
    token = context.attach(baggage.set_baggage("user", "private"))
    try:
        async with AsyncApimart(KEY, base_url=raw_server.base_url, event_hooks=telemetry.hooks()) as client:
            await client.account.models()
            await client.images.read(f"{raw_server.base_url}/image")
            await client.with_options(default_headers={"traceparent": "my own"}).account.models()
        silent = telemetry.hooks(propagate=False)
        async with AsyncApimart(KEY, base_url=raw_server.base_url, event_hooks=silent) as client:
            await client.account.models()
    finally:
        context.detach(token)
    span = telemetry.spans()[0]
    assert span.context is not None
    first, *others = [seen.headers.get("traceparent") for seen in raw_server.seen]
    assert str(first).startswith(f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-")
    assert others == [None, "my own", None]
    assert not any("baggage" in seen.headers for seen in raw_server.seen)


async def test_each_job_of_a_batch_is_a_span(
    emulator: Emulator, telemetry: Telemetry, tmp_path: Path
) -> None:
    jobs = [Job(GIF, PROMPT, id="good"), Job(b"no picture", PROMPT, id="bad")]
    async with (
        connected(emulator, telemetry.hooks()) as client,
        edit_many(client, jobs, output=tmp_path) as outcomes,
    ):
        found = {outcome.id: outcome async for outcome in outcomes}
    calls = [span for span in telemetry.spans() if span.name.startswith("generate_content")]
    by_error = {attributes(span).get("error.type"): span for span in calls}
    assert set(by_error) == {None, "UnsupportedImageError"}
    task = found["good"].task
    assert task is not None
    assert attributes(by_error[None])["gen_ai.response.id"] == task.id
    parents = {parent_id(span) for span in telemetry.spans() if span not in calls}
    assert parents == {span_id(by_error[None])}


async def test_a_stream_of_the_blocking_client_is_a_span_of_its_caller(
    emulator: Emulator, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    png = io.BytesIO()
    Image.new("RGBA", (256, 256)).save(png, "PNG")

    def stream() -> None:
        tracer = telemetry.tracer_provider.get_tracer("mine")
        with (
            AppleRouter(KEY, base_url=emulator.base_url, event_hooks=telemetry.hooks()) as router,
            tracer.start_as_current_span("mine"),
            router.edits.stream(png.getvalue(), PROMPT, model="gpt-image-1") as events,
        ):
            assert list(events)

    await anyio.to_thread.run_sync(stream)
    request, call, mine = telemetry.spans()
    assert (parent_id(request), parent_id(call)) == (span_id(call), span_id(mine))
    assert attributes(call)["gen_ai.provider.name"] == "applerouter"
    assert attributes(call)["apimart.operation"] == "edit"
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_without_hooks_nothing_of_opentelemetry_is_imported_and_without_it_the_extra_is_named() -> None:
    code = """
import sys
import apimart_async
apimart_async.AsyncApimart("k"), apimart_async.edit_many
assert not [name for name in sys.modules if name.startswith("opentelemetry")]
sys.modules["opentelemetry"] = None
try:
    import apimart_async.otel
except ModuleNotFoundError as missing:
    print(missing)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "apimart_async.otel needs opentelemetry-api: pip install '.[otel]' in the clone\n"
