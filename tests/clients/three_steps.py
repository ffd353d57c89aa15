"""Change a photo in the documented three steps — upload, submit, poll — with nothing but `requests`.

BASE=https://api.apimart.ai KEY=sk-… python three_steps.py photo.jpg "A starry sky" result [generation]
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import requests

BASE = os.environ["BASE"]
HEADERS = {"Authorization": f"Bearer {os.environ['KEY']}"}
TIMEOUT = 120


def checked(response: requests.Response) -> Any:
    """Return the JSON of a good answer; an error may come with HTTP 200."""
    answer = response.json()
    if not response.ok or answer.get("error"):
        raise SystemExit(f"HTTP {response.status_code}: {answer['error']['message']}")
    return answer


def upload(photo: Path) -> str:
    with photo.open("rb") as file:
        answer = checked(
            requests.post(f"{BASE}/v1/uploads/images", headers=HEADERS, files={"file": file}, timeout=TIMEOUT)
        )
    return str(answer["url"])


def submit_edit(url: str, prompt: str) -> str:
    body = {"model": "grok-imagine-1.0-edit-apimart", "prompt": prompt, "image_urls": [url], "n": 1}
    answer = checked(requests.post(f"{BASE}/v1/images/edits", headers=HEADERS, json=body, timeout=TIMEOUT))
    return task_id_of(answer)


def submit_generation(url: str, prompt: str) -> str:
    body = {
        "model": "gemini-3-pro-image-preview",
        "prompt": prompt,
        "image_urls": [url],
        "size": "16:9",
        "resolution": "1k",
        "n": 1,
    }
    answer = checked(
        requests.post(f"{BASE}/v1/images/generations", headers=HEADERS, json=body, timeout=TIMEOUT)
    )
    return task_id_of(answer)


def task_id_of(answer: Any) -> str:
    data = answer.get("data", answer)
    task = data[0] if isinstance(data, list) else data
    return str(task.get("task_id") or task["id"])


def wait(task_id: str) -> Any:
    for _ in range(1200):
        answer = checked(
            requests.get(
                f"{BASE}/v1/tasks/{task_id}", params={"language": "en"}, headers=HEADERS, timeout=TIMEOUT
            )
        )
        task = answer["data"]
        if task["status"] in {"completed", "success", "succeeded", "done"}:
            return task
        if task.get("error"):
            raise SystemExit(f"The task failed: {task['error']['message']}")
        time.sleep(0.1)
    raise SystemExit(f"{task_id} took too long.")


def download(task: Any, place: Path) -> None:
    url = task["result"]["images"][0]["url"]
    url = url[0] if isinstance(url, list) else url
    response = requests.get(url, timeout=TIMEOUT)  # without the key: the file host is another
    response.raise_for_status()
    place.write_bytes(response.content)


def main() -> None:
    photo, prompt, result, *rest = sys.argv[1:]
    submit = submit_generation if rest else submit_edit
    task_id = submit(upload(Path(photo)), prompt)
    task = wait(task_id)
    download(task, Path(result))
    print(task_id, task["cost"])  # noqa: T201 a script prints


if __name__ == "__main__":
    main()
