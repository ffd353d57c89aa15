"""An edit and a generation with the package ``openai``."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from urllib.request import urlopen

from openai import OpenAI

client = OpenAI(
    api_key=os.environ["APPLEROUTER_API_KEY"],
    base_url=os.environ["APPLEROUTER_BASE_URL"] + "/v1/",
)

with Path("photo.jpg").open("rb") as photo:
    edited = client.images.edit(
        image=photo,
        prompt="A starry sky",
        model="gpt-image-2",
        n=2,
    )
made = client.images.generate(prompt="A lighthouse in fog", model="gpt-image-2")

Path("out").mkdir(exist_ok=True)
images = (edited.data or []) + (made.data or [])
for number, image in enumerate(images):
    path = Path(f"out/image-{number}.png")
    if image.b64_json:
        path.write_bytes(base64.b64decode(image.b64_json))
    elif image.url:
        with urlopen(image.url) as answer:
            path.write_bytes(answer.read())
    print(path)
