"""Why a task failed, in the languages the service answers in."""

from __future__ import annotations

REASONS = {
    "moderated": ("content_policy_violation", "invalid_request_error"),
    "unreadable": ("invalid_image", "invalid_request_error"),
    "broken": ("generation_failed", "server_error"),
}
"""The `code` and `type` of each reason."""

_MESSAGES = {
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


def explain(reason: str, language: str) -> str:
    """Return why a task failed, in a language; in English when it is not one of the service's."""
    messages = _MESSAGES[reason]
    return messages.get(language, messages["en"])
