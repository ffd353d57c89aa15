from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

if TYPE_CHECKING:
    from .conftest import MakeImage, Raw


async def generated(raw: Raw, **fields: Any) -> list[Image.Image]:
    body = {"model": "gemini-3-pro-image-preview", "prompt": "a lighthouse"} | fields
    answer = await raw.post("/v1/images/generations", body)
    assert answer.status == 200, answer.content
    task = await raw.finished(answer.json["data"][0]["task_id"])
    assert task["status"] == "completed"
    urls = [url for image in task["result"]["images"] for url in image["url"]]
    return [Image.open(io.BytesIO((await raw.send("GET", url)).content)) for url in urls]


async def test_only_a_model_is_required(raw: Raw) -> None:
    assert (await raw.post("/v1/images/generations", {"model": "m"})).status == 200
    answer = await raw.post("/v1/images/generations", {"prompt": "a"})
    assert (answer.status, answer.json["error"]["message"]) == (400, "model is required")


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (1024, 1024)),
        ({"size": "auto"}, (1024, 1024)),
        ({"size": "16:9"}, (1024, 576)),
        ({"size": "9:16", "resolution": "2k"}, (900, 1600)),
        ({"size": "800x600"}, (800, 600)),
        ({"size": "1:1", "resolution": "4K"}, (1600, 1600)),
    ],
)
async def test_results_have_the_requested_size(
    raw: Raw, fields: dict[str, str], size: tuple[int, int]
) -> None:
    (image,) = await generated(raw, **fields)
    assert image.size == size


async def test_a_reference_is_edited_and_fitted(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(80, 60)))).json["url"]
    (as_it_is,) = await generated(raw, image_urls=[upload])
    (fitted,) = await generated(raw, image_urls=[{"url": upload}], size="300x300")
    assert as_it_is.size == (80, 60)
    assert fitted.size == (300, 300)


GROK = "grok-imagine-2.0-ext"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"operation": "segment"}, "needs an image"),
        ({"operation": "segment", "image_urls": ["{url}"], "prompt": "p"}, "takes no prompt"),
        ({"operation": "region_edit", "image_urls": ["{url}"]}, "needs a prompt"),
        ({"operation": "erase", "image_urls": ["{url}"]}, "must be segment or region_edit"),
        ({"n": 13, "prompt": "p"}, "between 1 and 12"),
        ({"image_with_roles": [{"url": "{url}"}], "prompt": "p"}, "the strings url and role"),
    ],
)
async def test_operations_on_regions_are_checked(raw: Raw, fields: dict[str, Any], message: str) -> None:
    body = json.loads(json.dumps({"model": GROK} | fields).replace("{url}", "https://pictures.example/1.jpg"))
    answer = await raw.post("/v1/images/generations", body)
    assert answer.status == 400
    assert message in answer.json["error"]["message"]


async def test_a_segmentation_is_free_and_an_edit_of_regions_is_not(raw: Raw) -> None:
    fields = {"model": GROK, "image_urls": ["https://pictures.example/1.jpg"]}
    free = await raw.post("/v1/images/generations", fields | {"operation": "segment"})
    paid = await raw.post("/v1/images/generations", fields | {"operation": "region_edit", "prompt": "p"})
    other = await raw.post("/v1/images/generations", fields | {"model": "m", "operation": "segment"})
    assert {free.status, paid.status, other.status} == {200}
    assert [(entry.operation, entry.cost) for entry in raw.emulator.ledger.entries] == [
        ("segment", 0.0),
        ("region_edit", 0.015),
        (None, 0.015),
    ]


async def test_images_with_roles_are_references(raw: Raw, make_image: MakeImage) -> None:
    upload = (await raw.upload(make_image(size=(80, 60)))).json["url"]
    (image,) = await generated(raw, image_with_roles=[{"url": upload, "role": "style"}])
    assert image.size == (80, 60)


async def test_opaque_areas_of_a_mask_are_kept(raw: Raw, make_image: MakeImage) -> None:
    mask = Image.new("RGBA", (80, 60), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 40, 60))
    file = io.BytesIO()
    mask.save(file, "PNG")
    original = make_image("PNG", size=(80, 60))
    image_url = (await raw.upload(original)).json["url"]
    mask_url = (await raw.upload(file.getvalue())).json["url"]
    (edited,) = await generated(raw, image_urls=[image_url], mask_url=mask_url, output_format="png")
    before = Image.open(io.BytesIO(original)).convert("RGB")
    right = (40, 0, 80, 60)
    assert edited.crop(right).tobytes() == before.crop(right).tobytes()
    assert edited.tobytes() != before.tobytes()


async def test_the_format_can_be_chosen(raw: Raw) -> None:
    assert [image.format for image in await generated(raw, output_format="png", n=2)] == ["PNG", "PNG"]
    assert [image.format for image in await generated(raw, output_format="jpeg")] == ["JPEG"]


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"n": "2"}, "n must be an integer, not a string"),
        ({"size": 1024}, "size must be a string, not a number"),
        ({"size": "large"}, "size must be"),
        ({"size": "0:1"}, "size must be"),
        ({"resolution": "8k"}, "resolution must be one of 1k, 2k, 4k"),
        ({"image_urls": "https://a.example/b.jpg"}, "image_urls must be a list"),
        ({"image_urls": [{"href": "https://a.example/b.jpg"}]}, "image_urls[0] must be a string, not null"),
        ({"prompt": 5}, "prompt must be a string, not a number"),
        ({"mask_url": 5}, "mask_url must be a string, not a number"),
        ({"mask_url": "mask.png"}, "mask_url must be an http(s) URL"),
        ({"webhook": True}, "webhook must be a string, not a boolean"),
    ],
)
async def test_invalid_fields_are_refused(raw: Raw, fields: dict[str, Any], complaint: str) -> None:
    answer = await raw.post("/v1/images/generations", {"model": "m", "prompt": "p"} | fields)
    assert answer.status == 400
    assert complaint in answer.json["error"]["message"]
    assert raw.emulator.ledger.entries == []


async def test_unknown_fields_are_ignored(raw: Raw) -> None:
    body: dict[str, Any] = {
        "model": "m",
        "prompt": "p",
        "quality": "high",
        "background": "opaque",
        "seed": 5,
        "style": {},
    }
    assert (await raw.post("/v1/images/generations", body)).status == 200
