"""The bodies that describe tasks: the documented variant first, then every other known to the contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .settings import BatchVariant
    from .tasks import FailureReason, Status, Task

Json = dict[str, Any]

SubmitVariant = Literal["list", "object", "accepted", "top-level"]
ImageVariant = Literal["list", "string", "together", "inline", "b64_json", "base64", "relative"]

SUBMIT_VARIANTS: Final[tuple[SubmitVariant, ...]] = ("list", "object", "accepted", "top-level")
"""The bodies that accept a submission, the documented one first."""

IMAGE_VARIANTS: Final[tuple[ImageVariant, ...]] = (
    "list",
    "string",
    "together",
    "inline",
    "b64_json",
    "base64",
    "relative",
)
"""A task's images: a list of one URL each, a string each, one list of all, the images themselves (a data URL
each, as `b64_json`, or as base64 in `url`), or URLs without an origin."""

INLINE_VARIANTS: Final[frozenset[ImageVariant]] = frozenset({"inline", "b64_json", "base64"})

_EXACT_BELOW: Final = 10.0
"""Seconds from which durations are rounded to whole seconds, as the service does."""

_STATUS_SPELLINGS: Final[dict[Status, tuple[str, ...]]] = {
    "submitted": ("submitted", "pending", "queued"),
    "processing": ("processing", "in_progress"),
    "completed": ("completed", "success", "succeeded", "done"),
    "failed": ("failed", "failure", "error"),
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
    task_id: str, *, estimate: int, origin: str, variant: SubmitVariant = "list"
) -> tuple[int, Json]:
    """Return the status and body that accept a submission."""
    if variant == "object":
        data = {"id": task_id, "status": "pending", "progress": 0, "task_info": {"estimated_time": estimate}}
        return 200, {"code": 200, "data": data}
    if variant == "accepted":
        poll_url = f"{origin}/v1/tasks/{task_id}"
        return 202, {"code": 202, "data": {"id": task_id, "status": "queued", "poll_url": poll_url}}
    if variant == "top-level":
        return 200, {"id": task_id, "status": "submitted"}
    return 200, {"code": 200, "data": [{"status": "submitted", "task_id": task_id}]}


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
        language: Of the error message.
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
        return body
    seconds = task.seconds
    body |= {
        "completed": int(task.finished_at),
        "actual_time": round(seconds) if seconds >= _EXACT_BELOW else round(seconds, 2),
        "cost": round(task.cost, 6),
        "credits_cost": round(10 * task.cost, 6),
    }
    if status == "completed":
        body["result"] = {"images": _images(urls, int(expires_at), images)}
    elif task.reason is not None:
        code, kind = _ERROR_CODES[task.reason]
        body["error"] = {"code": code, "message": _error_message(task.reason, language), "type": kind}
    return body


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
