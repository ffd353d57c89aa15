"""Change a photo in three steps: upload it, submit a generation that refers to it, poll for the result."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import requests

API_KEY = "YOUR_API_KEY"
BASE_URL = "https://api.apimart.ai"

headers = {"Authorization": f"Bearer {API_KEY}"}

# Step 1: upload the photo.
with Path(sys.argv[1]).open("rb") as photo:
    response = requests.post(
        f"{BASE_URL}/v1/uploads/images", headers=headers, files={"file": photo}, timeout=60
    )
response.raise_for_status()
image_url = response.json()["url"]
print("Uploaded:", image_url)

# Step 2: submit a generation that refers to it.
response = requests.post(
    f"{BASE_URL}/v1/images/generations",
    headers=headers,
    json={
        "model": "gemini-3-pro-image-preview",
        "prompt": sys.argv[2],
        "size": "16:9",
        "n": 1,
        "image_urls": [{"url": image_url}],
    },
    timeout=60,
)
response.raise_for_status()
task_id = response.json()["id"]
print("Submitted:", task_id)

# Step 3: poll until the task has ended.
while True:
    response = requests.get(f"{BASE_URL}/v1/images/generations/{task_id}", headers=headers, timeout=60)
    response.raise_for_status()
    task = response.json()
    if task["status"] == "completed":
        print("Result:", task["url"])
        break
    if task["status"] == "failed":
        sys.exit(f"Failed: {task['fail_reason']}")
    time.sleep(2)
