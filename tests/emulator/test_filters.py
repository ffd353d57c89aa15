from __future__ import annotations

import io
from typing import TYPE_CHECKING, get_args

import pytest
from PIL import Image, ImageChops, ImageStat

from apimart_async.emulator.filters import Filter, apply_filter, choose_filter
from apimart_async.emulator.renderer import Landscape, Placeholder, RenderSpec, StoredImage, render

if TYPE_CHECKING:
    from pathlib import Path

FILTERS: tuple[Filter, ...] = get_args(Filter)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("Change the background to a starry sky", "starry-sky"),
        ("把背景换成星空", "starry-sky"),
        ("a cyberpunk city at night", "starry-sky"),
        ("at SUNSET, please", "sunset"),
        ("Make it snow", "snow"),
        ("as a watercolor", "watercolour"),
        ("as a watercolour", "watercolour"),
        ("a pencil sketch", "pencil"),
        ("in black and white", "black-and-white"),
        ("Snow under the stars", "snow"),
        ("put a hat on the dog", "two-tone"),
        ("", "two-tone"),
    ],
)
def test_the_prompt_selects_the_filter(prompt: str, name: Filter) -> None:
    assert choose_filter(prompt) == name


def rendered(spec: RenderSpec, index: int, files: dict[str, Path]) -> Image.Image:
    return Image.open(io.BytesIO(render(spec, index, files.__getitem__))).convert("RGB")


def difference(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of two images' channels, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean) / 3


@pytest.mark.parametrize("name", FILTERS)
def test_each_filter_changes_the_image_varies_and_repeats(photographs: dict[str, Path], name: Filter) -> None:
    before = Image.open(photographs["coffee.png"]).convert("RGB").resize((300, 200))
    first, again, second = (apply_filter(name, before, seed) for seed in (3, 3, 4))
    assert first.size == before.size
    assert difference(first, before) > 10
    assert difference(first, second) > 1.5
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("photo", ["lighthouse.jpg", "mug.jpg", "portrait.jpg"])
def test_a_starry_sky_replaces_the_background_and_keeps_the_subject(repository: Path, photo: str) -> None:
    before = Image.open(repository / "docs" / "examples" / "photos" / photo).convert("RGB")
    after = apply_filter("starry-sky", before, 1)
    assert difference(before, after) > 8, "the least that .ci/run accepts"
    width, height = after.size
    sky = after.crop((0, 0, width, height // 4)).convert("L")
    assert ImageStat.Stat(sky).mean[0] < 80, "the sky is dark"
    assert max(sky.tobytes()) > 200, "there are stars"
    subject = (width * 2 // 5, height // 2, width * 3 // 4, height * 3 // 4)
    contrasts = [ImageStat.Stat(image.crop(subject).convert("L")).stddev[0] for image in (before, after)]
    assert contrasts[1] > contrasts[0] / 4, "the subject is recognisable"


@pytest.mark.parametrize("name", FILTERS)
def test_every_size_can_be_edited(name: Filter) -> None:
    for size in [(1, 1), (1, 40), (40, 1), (3, 3), (200, 7)]:
        assert apply_filter(name, Image.new("RGB", size, (180, 120, 60)), 5).size == size


def test_landscapes_and_placeholders_replace_missing_inputs() -> None:
    landscape, other = (
        rendered(RenderSpec(source=Landscape(seed), filter="sunset", seed=1, size=(320, 180)), 0, {})
        for seed in (1, 2)
    )
    assert landscape.size == (320, 180)
    assert difference(landscape, other) > 1
    named, unnamed = (
        rendered(RenderSpec(source=Placeholder(label), filter="two-tone", seed=1), 0, {})
        for label in ("https://a.example", "")
    )
    assert named.tobytes() != unnamed.tobytes(), "the placeholder shows the host that was not fetched"


def test_a_rotated_photograph_comes_back_upright(tmp_path: Path) -> None:
    path = tmp_path / "rotated.jpg"
    photo = Image.new("RGB", (60, 30), (10, 200, 90))
    exif = photo.getexif()
    exif[0x0112] = 6
    photo.save(path, exif=exif)
    spec = RenderSpec(source=StoredImage("rotated"), filter="two-tone", seed=1)
    assert rendered(spec, 0, {"rotated": path}).size == (30, 60)
