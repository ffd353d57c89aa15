"""The bodies that describe tasks: the documented variant first, then every other known to the contract."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import BatchVariant
    from .tasks import FailureReason, Status, Task

Json = dict[str, Any]

SubmitVariant = Literal[
    "list",
    "object",
    "accepted",
    "top-level",
    "versioned",
    "two-ids",
    "result",
    "result-with-id",
    "openai-url",
    "openai-inline",
]
ImageVariant = Literal[
    "list",
    "string",
    "together",
    "inline",
    "b64_json",
    "base64",
    "relative",
    "image_urls",
    "image_url",
    "result-list",
    "result-text",
    "data",
    "image_url-in-entry",
    "output",
    "videos",
]

SUBMIT_VARIANTS: Final[tuple[SubmitVariant, ...]] = get_args(SubmitVariant)
"""The bodies that accept a submission, the documented one first."""

SYNCHRONOUS: Final[frozenset[SubmitVariant]] = frozenset(
    ("result", "result-with-id", "openai-url", "openai-inline")
)
"""The bodies that are the result itself."""

RESPONSE_VERSION: Final = "2026-07-27"
"""The version of the bodies "versioned" and "result", which a header may ask for."""

IMAGE_VARIANTS: Final[tuple[ImageVariant, ...]] = get_args(ImageVariant)
"""A task's images: a list of one URL each, a string each, one list of all, the images themselves (a data URL
each, as `b64_json`, or as base64 in `url`), URLs without an origin, or in one of the other places where
clients have found them."""

INLINE_VARIANTS: Final[frozenset[ImageVariant]] = frozenset({"inline", "b64_json", "base64"})

_EXACT_BELOW: Final = 10.0
"""Seconds from which durations are rounded to whole seconds, as the service does."""

_STATUS_SPELLINGS: Final[dict[Status, tuple[str, ...]]] = {
    "submitted": ("submitted", "pending", "queued"),
    "processing": ("processing", "in_progress"),
    "completed": ("completed", "success", "succeeded", "done", "complete", "SUCCESS"),
    "failed": ("failed", "failure", "error", "fail"),
    "cancelled": ("cancelled", "canceled"),
    "expired": ("expired",),
}

_ERROR_CODES: Final[dict[FailureReason, tuple[str, str]]] = {
    "moderated": ("content_policy_violation", "invalid_request_error"),
    "unreadable": ("invalid_image", "invalid_request_error"),
    "broken": ("generation_failed", "server_error"),
}
"""`error.code` and `error.type` of each reason for a failure."""

_MESSAGES: Final[dict[FailureReason, dict[str, str]]] = {
    "moderated": {
        "en": "the request was rejected by content moderation",
        "zh": "请求未通过内容审核",
        "ja": "リクエストはコンテンツ審査により拒否されました",
        "ko": "콘텐츠 심사에서 요청이 거부되었습니다",
        "ru": "запрос отклонён модерацией содержимого",
        "fr": "la requête a été rejetée par la modération du contenu",
        "de": "die Anfrage wurde von der Inhaltsprüfung abgelehnt",
        "id": "permintaan ditolak oleh moderasi konten",
        "pt": "a solicitação foi rejeitada pela moderação de conteúdo",
        "es": "la moderación de contenido rechazó la solicitud",
    },
    "unreadable": {
        "en": "the image could not be read",
        "zh": "无法读取图片",
        "ja": "画像を読み取れませんでした",
        "ko": "이미지를 읽을 수 없습니다",
        "ru": "не удалось прочитать изображение",
        "fr": "l'image n'a pas pu être lue",
        "de": "das Bild konnte nicht gelesen werden",
        "id": "gambar tidak dapat dibaca",
        "pt": "não foi possível ler a imagem",
        "es": "no se pudo leer la imagen",
    },
    "broken": {
        "en": "image generation failed, please try again",
        "zh": "图片生成失败, 请重试",
        "ja": "画像の生成に失敗しました。もう一度お試しください",
        "ko": "이미지 생성에 실패했습니다. 다시 시도해 주세요",
        "ru": "не удалось создать изображение, попробуйте ещё раз",
        "fr": "la génération de l'image a échoué, veuillez réessayer",
        "de": "die Bilderzeugung ist fehlgeschlagen, bitte erneut versuchen",
        "id": "pembuatan gambar gagal, silakan coba lagi",
        "pt": "a geração da imagem falhou, tente novamente",
        "es": "la generación de la imagen falló, inténtelo de nuevo",
    },
}


def submitted_body(
    task_id: str, *, estimate: int, origin: str, variant: SubmitVariant = "list", request_id: str = ""
) -> tuple[int, Json]:
    """Return the status and body that accept a submission and name its task."""
    if variant == "versioned":
        task = {"object": "generation.task", "id": task_id, "status": "submitted"}
        return 200, {"code": 200, "data": task, "request_id": request_id}
    if variant == "object":
        data = {"id": task_id, "status": "pending", "progress": 0, "task_info": {"estimated_time": estimate}}
        return 200, {"code": 200, "data": data}
    if variant == "accepted":
        poll_url = f"{origin}/v1/tasks/{task_id}"
        return 202, {"code": 202, "data": {"id": task_id, "status": "queued", "poll_url": poll_url}}
    if variant == "top-level":
        return 200, {"id": task_id, "status": "submitted"}
    return 200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}


def result_body(task: Json, *, variant: SubmitVariant, request_id: str) -> Json:
    """Return the body that answers a submission with its result.

    Args:
        task: The body of the ended task.
        variant: One of `SYNCHRONOUS`; the images of "openai-inline" are data URLs.
        request_id: Identifier of the request.
    """
    if variant in {"result", "result-with-id"} or "result" not in task:
        fields = ("status", "cost", "credits_cost", "result", "usage", "error")
        data = {"object": "generation.result"} | {name: task[name] for name in fields if name in task}
        if variant == "result-with-id":
            data["id"] = task["id"]
        return {"code": 200, "data": data, "request_id": request_id}
    images = task["result"]["images"]
    if variant == "openai-inline":
        entries = [{"b64_json": image["url"].partition(",")[2]} for image in images]
    else:
        entries = [{"url": image["url"]} for image in images]
    return {"created": task["created"], "data": entries}


def task_body(
    task: Task,
    now: float,
    *,
    estimate: int,
    expires_at: float,
    urls: Sequence[str],
    language: str = "en",
    spelling: int = 0,
    images: ImageVariant = "list",
) -> Json:
    """Return a task as in the response to `GET /v1/tasks/{id}`.

    Args:
        task: The task.
        now: Unix seconds.
        estimate: The service's estimate of a task's duration in seconds.
        expires_at: When the images expire, in unix seconds.
        urls: URLs of the images; used only when the task has completed.
        language: Language of the error message.
        spelling: Number of the spelling of the status; 0 is the documented one.
        images: The variant of the images.
    """
    status = task.status(now)
    spellings = _STATUS_SPELLINGS[status]
    body: Json = {
        "id": task.id,
        "status": spellings[spelling % len(spellings)],
        "progress": task.progress(now),
        "created": int(task.submitted_at),
        "estimated_time": estimate,
    }
    if status in {"submitted", "processing"}:
        # The amount that is reserved until the task ends.
        return body | _costs(task.reserved)
    seconds = task.seconds
    body |= {
        "completed": int(task.finished_at),
        "actual_time": round(seconds) if seconds >= _EXACT_BELOW else round(seconds, 2),
        # A failed task is refunded, and may report the amount all the same.
        **_costs(task.cost if status == "completed" or spelling % 2 == 0 else task.reserved),
    }
    if status == "completed":
        body |= {"usage": _usage(task), **_result(urls, int(expires_at), images)}
    elif task.reason is not None:
        body |= _failure(task.reason, language, spelling)
    return body


def _costs(usd: float) -> Json:
    return {"cost": round(usd, 6), "credits_cost": round(10 * usd, 6)}


def _usage(task: Task) -> Json:
    made = 1056 * task.images
    return {
        "input_tokens": 300,
        "input_tokens_details": {"cached_tokens": 0, "image_tokens": 256, "text_tokens": 44},
        "output_tokens": made,
        "output_tokens_details": {"image_tokens": made, "text_tokens": 0},
        "total_tokens": 300 + made,
    }


def _failure(reason: FailureReason, language: str, spelling: int) -> Json:
    """Return the reason of a failure: as documented for 0, and in the places where clients have found it."""
    code, kind = _ERROR_CODES[reason]
    message = _error_message(reason, language)
    error = {"code": code, "message": message, "type": kind}
    forms: tuple[Json, ...] = (
        {"error": error},
        {"error_message": message},
        {"error": {"error": error}},
        {"fail_reason": message},
        {"error": {"type": "task_error", "code": "task_failed", "param": None}, "error_message": message},
    )
    return forms[spelling % len(forms)]


def webhook_body(task: Json) -> Json:
    """Return an ended task as a webhook shows it: a failure has an error of its own."""
    if task["status"] != "failed":
        return task
    return task | {"error": {"type": "task_error", "code": "task_failed", "param": None}}


def legacy_task_body(task: Task, now: float, *, urls: Sequence[str], language: str = "en") -> Json:
    """Return a task as in the response of the oldest polling path: flat, with the first image only."""
    status = task.status(now)
    body: Json = {"id": task.id, "status": status, "progress": task.progress(now)}
    if status == "completed":
        body["url"] = urls[0] if urls else ""
    elif task.reason is not None and status == task.final_status:
        body["fail_reason"] = _error_message(task.reason, language)
    return body


def batch_body(tasks: Sequence[Json], variant: BatchVariant) -> Json:
    """Return the body of the response to `POST /v1/tasks/batch`."""
    return {"code": 200, "data": list(tasks) if variant == "list" else {variant: list(tasks)}}


def _result(urls: Sequence[str], expires_at: int, variant: ImageVariant) -> Json:
    listed = {"expires_at": expires_at, "image_urls": list(urls)}
    entries = [{"url": url, "expires_at": expires_at} for url in urls]
    places: dict[ImageVariant, Json] = {
        "image_urls": {"result": listed},
        "result-list": {"result": entries},
        "result-text": {"result": json.dumps({"images": entries})},
        "data": {"data": entries},
        "image_url-in-entry": {
            "result": {"images": [{"image_url": url, "expires_at": expires_at} for url in urls]}
        },
        "output": {"output": listed},
        "videos": {"result": {"videos": entries}},
    }
    if len(urls) == 1:
        places["image_url"] = {"result": {"image_url": urls[0], "expires_at": expires_at}}
    return places.get(variant) or {"result": {"images": _images(urls, expires_at, variant)}}


def _images(urls: Sequence[str], expires_at: int, variant: ImageVariant) -> list[Json]:
    if variant == "string":
        return [{"url": url, "expires_at": expires_at} for url in urls]
    if variant == "together":
        return [{"url": list(urls), "expires_at": expires_at}]
    if variant == "inline":
        return [{"url": url} for url in urls]
    if variant in INLINE_VARIANTS:
        name = "url" if variant == "base64" else variant
        return [{name: url.partition(",")[2]} for url in urls]
    if variant == "relative":
        urls = [f"/{url.split('/', 3)[-1]}" for url in urls]
    return [{"url": [url], "expires_at": expires_at} for url in urls]


def _error_message(reason: FailureReason, language: str) -> str:
    messages = _MESSAGES[reason]
    return messages.get(language, messages["en"])
