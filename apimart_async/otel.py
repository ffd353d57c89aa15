"""OpenTelemetry: spans and metrics of HTTP requests, and of edits and generations.

```python
async with AsyncApimart(event_hooks=otel.event_hooks()) as client: ...
```

It needs ``opentelemetry-api``, the extra ``otel``. The package imports it here only.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import attrs

from apimart_async.hooks import EventHooks, Observer, Operation, RequestEvent, ResponseEvent
from apimart_async.transport.observation import as_name

try:
    from opentelemetry import context, metrics, trace
except ModuleNotFoundError as _missing:
    raise ModuleNotFoundError(
        "apimart_async.otel needs opentelemetry-api: pip install '.[otel]' in the clone", name=_missing.name
    ) from _missing
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

if TYPE_CHECKING:
    from collections.abc import Generator, MutableMapping

    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from apimart_async.models import Task

_SCOPE: Final = "apimart_async"
_CALL: Final = context.create_key("apimart-async-call")
_TASK: Final = re.compile(r"(/v1/tasks/)(?!batch$)[^/]+$")
_POLLS: Final = "/v1/tasks/"
_BAD_FROM: Final = 400
_TOO_MANY: Final = 429
_PROPAGATOR: Final = TraceContextTextMapPropagator()
# As the semantic conventions ask.
_REQUEST_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_CALL_BUCKETS: Final = (
    0.01,
    0.02,
    0.04,
    0.08,
    0.16,
    0.32,
    0.64,
    1.28,
    2.56,
    5.12,
    10.24,
    20.48,
    40.96,
    81.92,
)


def event_hooks(
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    propagate: bool = True,
) -> EventHooks:
    """Return event hooks that record spans and metrics with OpenTelemetry.

    Args:
        tracer_provider: Provider of the tracer; the global one by default.
        meter_provider: Provider of the meter; the global one by default.
        propagate: Whether requests to the origins of ``base_url`` carry the headers ``traceparent`` and
            ``tracestate``. File hosts never get these, and baggage is sent to nobody.

    Returns:
        The hooks, for ``event_hooks=`` of one client or of several.
    """
    return _Hooks(
        trace.get_tracer(_SCOPE, tracer_provider=tracer_provider),
        _Instruments.of(metrics.get_meter(_SCOPE, meter_provider=meter_provider)),
        propagate,
    )


@attrs.frozen
class _Instruments:
    """The instruments of all metrics."""

    request_duration: Histogram
    retries: Counter
    rate_limited: Counter
    poll_requests: Counter
    call_duration: Histogram
    active_calls: UpDownCounter
    tasks: Counter
    cost: Counter
    task_duration: Histogram

    @classmethod
    def of(cls, meter: metrics.Meter) -> _Instruments:
        return cls(
            request_duration=meter.create_histogram(
                "http.client.request.duration",
                "s",
                "Duration of HTTP requests",
                explicit_bucket_boundaries_advisory=_REQUEST_BUCKETS,
            ),
            retries=meter.create_counter("apimart.client.retries", "{request}", "Requests sent again"),
            rate_limited=meter.create_counter("apimart.client.rate_limited", "{request}", "Answers 429"),
            poll_requests=meter.create_counter("apimart.client.poll_requests", "{request}", "Polls of tasks"),
            call_duration=meter.create_histogram(
                "gen_ai.client.operation.duration",
                "s",
                "Duration of edits and generations",
                explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
            ),
            active_calls=meter.create_up_down_counter(
                "apimart.client.active_operations", "{operation}", "Edits and generations in flight"
            ),
            tasks=meter.create_counter("apimart.client.tasks", "{task}", "Tasks that have ended"),
            cost=meter.create_counter("apimart.client.cost", "USD", "Cost that the service reports"),
            task_duration=meter.create_histogram(
                "apimart.client.task.duration",
                "s",
                "Time from the submit of a task to its end",
                explicit_bucket_boundaries_advisory=_CALL_BUCKETS,
            ),
        )


@attrs.define(eq=False)
class _Call:
    """A paid call that is in progress."""

    span: Span
    attributes: dict[str, AttributeValue]

    def fail(self, error: str) -> None:
        # Without a description: the message of an error may hold words of the prompt.
        self.span.set_status(Status(StatusCode.ERROR))
        self.attributes["error.type"] = error


@attrs.frozen
class _Hooks(Observer):
    """Records spans and metrics."""

    _tracer: Tracer = attrs.field(kw_only=False)
    _instruments: _Instruments = attrs.field(kw_only=False)
    _propagates: bool = attrs.field(kw_only=False)
    # By the identity of the event: equal requests may run at once.
    _requests: dict[int, tuple[Span, dict[str, AttributeValue]]] = attrs.field(
        factory=dict[int, tuple[Span, dict[str, AttributeValue]]], init=False
    )

    def request(self, event: RequestEvent, headers: MutableMapping[str, str] | None) -> None:
        """Start the span of a request, and add the trace context to the headers of one to the API."""
        attributes: dict[str, AttributeValue] = {"http.request.method": event.method, **_server(event.url)}
        name = event.method
        if headers is not None:
            template = _TASK.sub(r"\1{task_id}", urlsplit(event.url).path)
            attributes["url.template"] = template
            name = f"{event.method} {template}"
        only_span: dict[str, AttributeValue] = {"url.full": event.url}
        if event.attempt > 1:
            only_span["http.request.resend_count"] = event.attempt - 1
            self._instruments.retries.add(1, attributes)
        if event.idempotency_key is not None:
            only_span["apimart.idempotency_key"] = event.idempotency_key
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes | only_span)
        if headers is not None and self._propagates and "traceparent" not in headers:
            _PROPAGATOR.inject(headers, context=trace.set_span_in_context(span))
        self._requests[id(event)] = span, attributes

    def response(self, event: ResponseEvent) -> None:
        """End the span of a request."""
        started = self._requests.pop(id(event.request), None)
        if started is None:
            return
        span, attributes = started
        is_bad = event.status is not None and event.status >= _BAD_FROM
        if event.status is not None:
            attributes["http.response.status_code"] = event.status
        if is_bad or event.error is not None:
            attributes["error.type"] = str(event.status) if is_bad else str(event.error)
            span.set_status(Status(StatusCode.ERROR))
        span.set_attributes(attributes)
        if event.request_id is not None:
            span.set_attribute("apimart.request_id", event.request_id)
        span.end()
        instruments = self._instruments
        instruments.request_duration.record(event.elapsed, attributes)
        if event.status == _TOO_MANY:
            instruments.rate_limited.add(1, attributes)
        if str(attributes.get("url.template", "")).find(_POLLS) >= 0:
            instruments.poll_requests.add(1, attributes)

    @contextmanager
    def operation(self, operation: Operation) -> Generator[None]:
        """Record a span around a paid call, unless the call is a part of another one."""
        if context.get_value(_CALL) is not None:
            yield
            return
        attributes: dict[str, AttributeValue] = {
            "gen_ai.operation.name": "generate_content",
            "gen_ai.provider.name": operation.provider,
            "apimart.operation": operation.name,
            **_server(operation.base_url),
        }
        name = "generate_content"
        if operation.model is not None:
            attributes["gen_ai.request.model"] = operation.model
            name = f"{name} {operation.model}"
        only_span: dict[str, AttributeValue] = {"gen_ai.output.type": "image"}
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes | only_span)
        call, in_flight = _Call(span, attributes), dict(attributes)
        token = context.attach(context.set_value(_CALL, call, trace.set_span_in_context(span)))
        self._instruments.active_calls.add(1, in_flight)
        began = monotonic()
        try:
            yield
        except BaseException as error:
            call.fail(type(error).__name__)
            raise
        finally:
            span.set_attributes(attributes)
            span.end()
            self._instruments.active_calls.add(-1, in_flight)
            self._instruments.call_duration.record(monotonic() - began, attributes)
            # A stream of a blocking client ends in another context.
            if context.get_value(_CALL) is call:
                context.detach(token)

    def failed(self, error: str) -> None:
        """Mark the span of the call in progress as failed."""
        call = context.get_value(_CALL)
        if isinstance(call, _Call):
            call.fail(error)

    def submitted(self, task: Task) -> None:
        """Add a task to the span of its call."""
        if (task_id := as_name(task.id)) is not None:
            self._describe({"gen_ai.response.id": task_id})

    def ended(self, task: Task, seconds: float | None) -> None:
        """Count an ended task and its cost."""
        attributes: dict[str, AttributeValue] = {
            "gen_ai.provider.name": "apimart",
            "apimart.task.status": task.status,
        }
        if (model := as_name(task.model)) is not None:
            attributes["gen_ai.request.model"] = model
        instruments = self._instruments
        instruments.tasks.add(1, attributes)
        if seconds is not None:
            instruments.task_duration.record(seconds, attributes)
        if task.cost is not None:
            instruments.cost.add(max(0.0, task.cost), attributes)
            self._describe({"apimart.cost": task.cost})
        self._describe({"apimart.task.status": task.status})

    @staticmethod
    def _describe(attributes: dict[str, AttributeValue]) -> None:
        call = context.get_value(_CALL)
        if isinstance(call, _Call):
            call.span.set_attributes(attributes)


def _server(url: str) -> dict[str, AttributeValue]:
    """Return host and port of a URL as attributes."""
    parts = urlsplit(url)
    try:
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        port = 0
    return {"server.address": parts.hostname or "", "server.port": port}
