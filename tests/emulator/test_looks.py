from __future__ import annotations

import io
from typing import TYPE_CHECKING, get_args

import pytest
from PIL import Image, ImageChops, ImageStat

from apimart_async.emulator.looks import choose_look, draw
from apimart_async.emulator.recipes import Imagined, Look, Placeholder, Recipe, Stored

if TYPE_CHECKING:
    from pathlib import Path

LOOKS: tuple[Look, ...] = get_args(Look)


@pytest.mark.parametrize(
    ("prompt", "look"),
    [
        ("Change the background to a starry sky", "starry-sky"),
        ("把背景换成星空", "starry-sky"),
        ("at SUNSET, please", "sunset"),
        ("Make it snow", "snow"),
        ("a cyberpunk city full of neon", "cyberpunk"),
        ("as a watercolor", "watercolour"),
        ("as a watercolour", "watercolour"),
        ("a pencil sketch", "pencil"),
        ("in black and white", "black-and-white"),
        ("Snow under the stars", "snow"),
        ("put a hat on the dog", "colours"),
        ("", "colours"),
    ],
)
def test_the_prompt_chooses_the_look(prompt: str, look: Look) -> None:
    assert choose_look(prompt) == look


def rendered(recipe: Recipe, index: int, files: dict[str, Path]) -> Image.Image:
    return Image.open(io.BytesIO(draw(recipe, index, files.__getitem__))).convert("RGB")


def distance(first: Image.Image, second: Image.Image) -> float:
    """Mean difference of two pictures' channels, 0 to 255."""
    return sum(ImageStat.Stat(ImageChops.difference(first, second)).mean) / 3


@pytest.mark.parametrize("look", LOOKS)
def test_each_look_is_seen_differs_and_repeats(photographs: dict[str, Path], look: Look) -> None:
    recipe = Recipe(source=Stored("coffee.png"), look=look, seed=3)
    before = Image.open(photographs["coffee.png"]).convert("RGB")
    first, again, second = (rendered(recipe, index, photographs) for index in (0, 0, 1))
    assert first.size == before.size
    assert distance(first, before) > 10
    assert distance(first, second) > 1.5
    assert first.tobytes() == again.tobytes()


@pytest.mark.parametrize("name", ["rocket.jpg", "astronaut.png"])
def test_a_starry_sky_darkens_the_background_and_keeps_the_subject(
    photographs: dict[str, Path], name: str
) -> None:
    before = Image.open(photographs[name]).convert("RGB")
    after = rendered(Recipe(source=Stored(name), look="starry-sky", seed=1), 0, photographs)
    width, height = after.size
    sky = (0, 0, width // 3, height // 4) if name == "rocket.jpg" else (width // 2, 0, width, height // 6)
    bright = [pixel for pixel in after.crop(sky).convert("L").tobytes() if pixel > 120]
    assert bright, "there are stars"
    if name == "astronaut.png":
        light, dark = (ImageStat.Stat(picture.crop(sky).convert("L")).mean[0] for picture in (before, after))
        assert dark < light / 2
        face = (200, 80, 250, 180)
        edges_before, edges_after = (
            ImageStat.Stat(picture.crop(face).convert("L")).stddev[0] for picture in (before, after)
        )
        assert edges_after > edges_before / 3, "the face is still there"


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (3, 3), (200, 7)])
def test_no_size_is_too_odd(tmp_path: Path, look: Look, size: tuple[int, int]) -> None:
    path = tmp_path / "odd.png"
    Image.new("RGB", size, (180, 120, 60)).save(path)
    recipe = Recipe(source=Stored("odd"), look=look, seed=5)
    assert rendered(recipe, 0, {"odd": path}).size == size


def test_a_picture_from_nothing_and_one_not_fetched() -> None:
    imagined = rendered(Recipe(source=Imagined(1), look="sunset", seed=1, size=(320, 180)), 0, {})
    other = rendered(Recipe(source=Imagined(2), look="sunset", seed=1, size=(320, 180)), 0, {})
    assert imagined.size == (320, 180)
    assert distance(imagined, other) > 1
    named = rendered(Recipe(source=Placeholder("https://a.example"), look="colours", seed=1), 0, {})
    unnamed = rendered(Recipe(source=Placeholder(""), look="colours", seed=1), 0, {})
    assert named.tobytes() != unnamed.tobytes(), "it says which address was not fetched"


def test_a_turned_photograph_comes_back_upright(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    picture = Image.new("RGB", (60, 30), (10, 200, 90))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(path, exif=exif)
    recipe = Recipe(source=Stored("turned"), look="colours", seed=1)
    assert rendered(recipe, 0, {"turned": path}).size == (30, 60)
