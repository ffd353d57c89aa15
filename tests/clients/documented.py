"""Each request that the documentation of the services shows, as it is typed into a shell.

`$BASE` is the service, `$KEY` the key, `$UPLOAD_URL` and `$TASK_ID` come from earlier answers.
"""

from __future__ import annotations

from typing import Final

import attrs


@attrs.frozen
class Documented:
    """One request.

    Attributes:
        endpoint: Method and path.
        command: For a shell.
    """

    endpoint: str
    command: str


DOCUMENTED: Final[dict[str, Documented]] = {
    "an upload": Documented(
        "POST /v1/uploads/images",
        r"""
curl -X POST "$BASE/v1/uploads/images" \
  -H "Authorization: Bearer $KEY" \
  -F "file=@photo.jpg"
""",
    ),
    "an edit": Documented(
        "POST /v1/images/edits",
        r"""
curl -X POST "$BASE/v1/images/edits" \
  -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "grok-imagine-1.0-edit-apimart",
    "prompt": "Change the background to a starry sky",
    "image_urls": ["'"$UPLOAD_URL"'"],
    "n": 1
  }'
""",
    ),
    "an edit of a picture inside the request": Documented(
        "POST /v1/images/edits",
        r"""
curl -X POST "$BASE/v1/images/edits" \
  -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" \
  -H "Idempotency-Key: $(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" \
  --data-binary @- <<EOF
{"model": "grok-imagine-1.5-edit-apimart", "prompt": "白黒写真",
 "image_urls": ["data:image/png;base64,$(base64 < opaque.png | tr -d '\n')"]}
EOF
""",
    ),
    "a generation": Documented(
        "POST /v1/images/generations",
        r"""
curl -X POST "$BASE/v1/images/generations" \
  -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" \
  -d '{
    "model": "gemini-3-pro-image-preview",
    "prompt": "The same place in autumn",
    "size": "16:9",
    "resolution": "1k",
    "quality": "high",
    "n": 1,
    "image_urls": ["'"$UPLOAD_URL"'"],
    "output_format": "png",
    "output_compression": 90,
    "background": "auto",
    "moderation": "auto",
    "webhook": "https://hooks.example/apimart",
    "language": "en"
  }'
""",
    ),
    "a generation with the older form of its references": Documented(
        "POST /v1/images/generations",
        r"""
curl "$BASE/v1/images/generations" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \
  -d '{"model": "gemini-3-pro-image-preview", "prompt": "Snow", "image_urls": [{"url": "'"$UPLOAD_URL"'"}]}'
""",
    ),
    "a task": Documented(
        "GET /v1/tasks/{task_id}",
        r"""
curl "$BASE/v1/tasks/$TASK_ID?language=en" -H "Authorization: Bearer $KEY"
""",
    ),
    "a task as the oldest documentation has it": Documented(
        "GET /v1/images/generations/{task_id}",
        r"""
curl "$BASE/v1/images/generations/$TASK_ID" -H "Authorization: Bearer $KEY"
""",
    ),
    "many tasks": Documented(
        "POST /v1/tasks/batch",
        r"""
curl "$BASE/v1/tasks/batch" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \
  -d '{"task_ids": ["'"$TASK_ID"'"]}'
""",
    ),
    "the balance of the key": Documented(
        "GET /v1/balance",
        r"""
curl "$BASE/v1/balance" -H "Authorization: Bearer $KEY"
""",
    ),
    "the balance of the user": Documented(
        "GET /v1/user/balance",
        r"""
curl "$BASE/v1/user/balance" -H "Authorization: Bearer $KEY"
""",
    ),
    "a schema": Documented(
        "GET /v1/model-schema",
        r"""
curl "$BASE/v1/model-schema?model=gpt-image-2.5-flare&operation=image_generation" \
  -H "Authorization: Bearer $KEY"
""",
    ),
    "a schema by the path of its model": Documented(
        "GET /v1/models/{model}/schema",
        r"""
curl "$BASE/v1/models/gpt-image-2.5-flare/schema" -H "Authorization: Bearer $KEY"
""",
    ),
    "the documentation of a model": Documented(
        "GET /v1/model-docs",
        r"""
curl "$BASE/v1/model-docs?model=gpt-image-2.5-flare" -H "Authorization: Bearer $KEY"
""",
    ),
    "the prices": Documented(
        "GET /api/pricing/model",
        r"""
curl "$BASE/api/pricing/model" -H "Authorization: Bearer $KEY"
""",
    ),
    "the market place": Documented(
        "GET /api/marketplace/models",
        r"""
curl "$BASE/api/marketplace/models" -H "Authorization: Bearer $KEY"
""",
    ),
    "the use of the account": Documented(
        "GET /v1/usage",
        r"""
curl "$BASE/v1/usage?days=7" -H "Authorization: Bearer $KEY"
""",
    ),
    "the models": Documented(
        "GET /v1/models",
        r"""
curl "$BASE/v1/models" -H "Authorization: Bearer $KEY"
""",
    ),
    "an edit of AppleRouter with a mask": Documented(
        "POST /v1/images/edits/",
        r"""
curl -X POST "$BASE/v1/images/edits/" \
  -H "Authorization: Bearer $KEY" \
  -F image="@opaque.png" \
  -F mask="@mask.png" \
  -F prompt="A red hat" \
  -F n=2 \
  -F size="1024x1024"
""",
    ),
    "an edit of AppleRouter as base64": Documented(
        "POST /v1/images/edits/",
        r"""
curl "$BASE/v1/images/edits/" -H "Authorization: Bearer $KEY" -F image="@transparent.png" \
  -F prompt="A red hat" -F model=dall-e-2 -F size=256x256 -F response_format=b64_json -F user=someone
""",
    ),
    "an edit of AppleRouter without the last slash": Documented(
        "POST /v1/images/edits/",
        r"""
curl "$BASE/v1/images/edits" -H "Authorization: Bearer $KEY" -F image="@transparent.png" -F prompt="A red hat"
""",
    ),
    "an edit of AppleRouter of several pictures": Documented(
        "POST /v1/images/edits/",
        r"""
curl "$BASE/v1/images/edits/" -H "Authorization: Bearer $KEY" -F "image[]=@photo.jpg" \
  -F "image[]=@opaque.png" -F prompt="Put one into the other" -F model=gpt-image-2 -F size=1536x1024 \
  -F quality=high
""",
    ),
    "an edit of AppleRouter by a Qwen model": Documented(
        "POST /v1/images/edits/",
        r"""
curl -X POST "$BASE/v1/images/edits" -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \
  -d '{"model": "qwen-image-edit-plus", "input": {"messages": [{"role": "user", "content": [
        {"image": "https://example.com/depth-map.webp"}, {"text": "A red bicycle in a forest"}]}]},
       "parameters": {"n": 2, "prompt_extend": true, "watermark": false}}'
""",
    ),
    "a generation of AppleRouter": Documented(
        "POST /v1/images/generations/",
        r"""
curl -X POST "$BASE/v1/images/generations/" -H "Authorization: Bearer $KEY" \
  -H "Content-Type: application/json" \
  -d '{"model": "gpt-image-2", "prompt": "A cute baby sea otter", "n": 1, "size": "1024x1024"}'
""",
    ),
}
