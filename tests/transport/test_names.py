"""File names of uploads and results: valid on every system, distinct, and inside the directory."""

from __future__ import annotations

import unicodedata
from pathlib import Path
from string import ascii_letters, digits

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from apimart_async.errors import InvalidArgumentError
from apimart_async.transport.files.names import NameTemplate
from apimart_async.transport.media.filenames import clean_stem, safe_filename

RIGHT_TO_LEFT_OVERRIDE = "\u202e"

# Characters that are dangerous in names, and any others.
hostile = st.text(
    st.one_of(
        st.sampled_from("/\\.:*?\"<>| \r\n\0\t'%{};=-_\u202e\u2028\u00e9e\u0301\ud800"), st.characters()
    ),
    max_size=300,
)


def is_plain(name: str) -> bool:
    return (
        name == Path(name).name
        and not set(name) & set('/\\:*?"<>|')
        and not any(unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} for character in name)
        and not name.startswith((".", " "))
        and not name.endswith((".", " "))
        and len(name.encode()) <= 200
    )


@given(hostile, st.sampled_from(["image/png", "image/jpeg", "x/y"]))
def test_safe_filename_is_plain_and_idempotent(name: str, content_type: str) -> None:
    made = safe_filename(name, content_type)
    assert is_plain(made)
    assert "." in made
    assert safe_filename(made, content_type) == made


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("photo.jpg", "photo.jpg"),
        ("日本語 写真.png", "日本語 写真.png"),
        ("👩‍🚀 café.webp", "👩‍🚀 café.webp"),
        ("שלום.gif", "שלום.gif"),
        (f"photo{RIGHT_TO_LEFT_OVERRIDE}gpj.exe", "photo_gpj.exe"),
        ('a"; filename="evil.php', "a_; filename=_evil.php"),
        ("a\r\nContent-Type: text/html\r\n\r\n<script>.jpg", "html_____script_.jpg"),
        ("/etc/passwd", "passwd.jpg"),
        ("..\\..\\windows\\system.ini", "system.ini"),
        ("C:\\photos\\me.png", "me.png"),
        ("photos/", "photos.jpg"),
        ("..", "image.jpg"),
        ("", "image.jpg"),
        ("\0", "_.jpg"),
        (".png", "png.jpg"),
        ("nul.png", "_nul.png"),
        ("e\u0301.png", "\u00e9.png"),
        ("\ud800.png", "_.png"),
        ("no extension", "no extension.jpg"),
        ("v1.2 final", "v1.2 final.jpg"),
    ],
)
def test_safe_filename_examples(name: str, made: str) -> None:
    assert safe_filename(name, "image/jpeg") == made


def test_long_name_keeps_its_extension() -> None:
    made = safe_filename("字" * 500 + ".jpeg", "image/jpeg")
    assert made.endswith("字.jpeg")
    assert len(made.encode()) <= 200


@given(hostile)
def test_cleaned_stem_is_plain_and_idempotent(text: str) -> None:
    stem = clean_stem(text)
    assert is_plain(stem)
    assert clean_stem(stem) == stem


def stems(template: str, *task_ids: str) -> list[str]:
    return NameTemplate.parse(template).stems([(task_id, index) for index, task_id in enumerate(task_ids, 1)])


@pytest.mark.parametrize(
    ("template", "names"),
    [
        ("{task_id}-{index}", ["task_1-1", "task_1-2", "task_1-3"]),
        ("{task_id}", ["task_1", "task_1-2", "task_1-3"]),
        ("sky", ["sky", "sky-2", "sky-3"]),
        ("{index:03}", ["001", "002", "003"]),
        ("{{{index}}}", ["{1}", "{2}", "{3}"]),
        ("cat {index}.PNG", ["cat 1", "cat 2", "cat 3"]),
        ("写真{index}", ["写真1", "写真2", "写真3"]),
    ],
)
def test_template_names_images(template: str, names: list[str]) -> None:
    assert stems(template, "task_1", "task_1", "task_1") == names


@pytest.mark.parametrize(
    "template",
    [
        "{prompt}",
        "{}",
        "{0}",
        "{task_id.__class__}",
        "{task_id[0]}",
        "{task_id!r}",
        "{task_id:>999999999}",
        "{index:>9}",
        "{index:999999999}",
        "{index:{task_id}}",
        "{index",
        "index}",
        "",
        " ",
        ".png",
        "../{index}",
        "..",
        "a/{index}",
        "a\\{index}",
        "/etc/{index}",
        ".{index}",
        " {index}",
        "{index} ",
        "{index}.",
        "a\0{index}",
        "a\n{index}",
        "a:b",
        "what?",
        f"a{RIGHT_TO_LEFT_OVERRIDE}b",
        "CON",
        "nul.{index}",
        "com1",
        "LPT³",
        "x" * 181,
        "\ud800",
    ],
)
def test_template_without_plain_names_is_refused(template: str) -> None:
    with pytest.raises(InvalidArgumentError):
        NameTemplate.parse(template)


def test_error_for_unknown_field_lists_the_known_fields() -> None:
    with pytest.raises(InvalidArgumentError, match=r"\{task_id\} and \{index\}"):
        NameTemplate.parse("{prompt}-{index}")


@given(hostile)
def test_any_template_makes_plain_distinct_names_or_is_refused(template: str) -> None:
    try:
        made = stems(template, "task_1", "task_1")
    except InvalidArgumentError:
        return
    assert len(set(made)) == 2
    assert all(is_plain(f"{stem}.png") for stem in made)


@given(
    st.lists(hostile, min_size=1, max_size=6),
    st.sampled_from(["{task_id}-{index}", "{task_id}", "CO{task_id}"]),
)
def test_hostile_task_ids_make_plain_distinct_names(task_ids: list[str], template: str) -> None:
    made = stems(template, *task_ids)
    assert len(set(made)) == len(task_ids)
    assert all(is_plain(stem) and is_plain(f"{stem}-9999.webp") for stem in made)


@pytest.mark.parametrize(
    "task_id", ["../../etc/cron.d/x", "..", "/etc/passwd", "a\\..\\b", "C:evil", "\0", "", "-rf"]
)
def test_task_id_cannot_leave_the_directory(task_id: str) -> None:
    (stem,) = stems("{task_id}", task_id)
    assert is_plain(stem)
    assert not stem.startswith("-")


@given(hostile, hostile)
def test_two_tasks_never_share_a_name(one: str, other: str) -> None:
    assume(one != other)
    assert stems("{task_id}", one) != stems("{task_id}", other)


@given(st.text(ascii_letters + digits + "_", min_size=1, max_size=40))
def test_ordinary_task_id_is_kept(letters: str) -> None:
    assert stems("{task_id}-{index}", f"task_{letters}") == [f"task_{letters}-1"]


def test_many_equal_names_are_numbered() -> None:
    made = stems("{task_id}", *["task_1"] * 20_000)
    assert len(set(made)) == 20_000


@pytest.mark.parametrize(
    ("template", "one", "several"),
    [
        ("{task_id}-{index}", True, True),
        ("{task_id}", True, False),
        ("{index}", False, False),
        ("sky", False, False),
    ],
)
def test_template_identifies_an_image_by_task_id_and_index(template: str, one: bool, several: bool) -> None:  # noqa: FBT001
    assert NameTemplate.parse(template).identifies(1) is one
    assert NameTemplate.parse(template).identifies(3) is several
