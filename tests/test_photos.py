"""The example photos are those that their script draws."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops, ImageStat

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.long
def test_photos_are_the_output_of_their_script(repository: Path, tmp_path: Path) -> None:
    examples = repository / "docs" / "examples"
    drawn = runpy.run_path(str(examples / "draw_photos.py"))["draw"](tmp_path)
    committed = sorted((examples / "photos").iterdir())
    assert [path.name for path in committed] == sorted(path.name for path in drawn)
    for path in committed:
        with Image.open(path) as photo, Image.open(tmp_path / path.name) as again:
            assert photo.format == "JPEG"
            assert photo.size == again.size
            # Another Pillow may smooth or compress a little differently; another scene would differ by 40.
            difference = ImageStat.Stat(ImageChops.difference(photo, again)).mean
            assert max(difference) < 3, f"{path.name}: {difference}"
        assert path.stat().st_size < 300_000
