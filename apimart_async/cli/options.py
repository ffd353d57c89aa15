"""The arguments and options that several commands share, and their checks before anything is sent."""

from __future__ import annotations

import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, TextIO, TypeAlias, cast

import anyio
from cyclopts import Parameter

from apimart_async.cli.display.item import STDIN
from apimart_async.cli.display.output import is_terminal, listed, printable, say, sentence
from apimart_async.cli.signals import UsageError
from apimart_async.errors import ImageError, InvalidArgumentError
from apimart_async.resources.submission import Operation, check_request
from apimart_async.transport.concurrency import for_each
from apimart_async.transport.files import objects
from apimart_async.transport.files.patterns import matches_of
from apimart_async.transport.media import forms, inputs
from apimart_async.transport.object_storage import ObjectPath, any_path

if TYPE_CHECKING:
    from cyclopts import Token

    from apimart_async.batch.manifest.reader import Manifest as FoundManifest
    from apimart_async.batch.manifest.rows import ManifestOptions
    from apimart_async.transport.media.forms import NamedFile

_MOST_STDIN_BYTES: Final = 256 * 1024 * 1024
_APPLEROUTER_MAX_N: Final = 10


def flag(name: str, text: str) -> Parameter:
    """Return the parameter of an option without a value."""
    return Parameter(name=name, negative=(), show_default=False, help=text)


DEFAULT_DIRECTORY: Final = Path("edited")

PathOrUrl: TypeAlias = str | Path
"""A text: the annotation ``Path`` only makes shells complete names of files."""

Images: TypeAlias = Annotated[
    list[PathOrUrl],
    Parameter(
        negative=(),
        allow_leading_hyphen=True,  # for "-", the picture on stdin; other such arguments are refused
        help="Pictures, or patterns: JPEG, PNG, WebP or GIF of at most 20 MiB; - is stdin.",
    ),
]


def output_path(_type: object, tokens: Sequence[Token]) -> Path:
    """Return the path of a directory, or of a folder of object storage."""
    try:
        return any_path(tokens[0].value)
    except InvalidArgumentError as error:
        raise ValueError(error.message) from error


Conversion: TypeAlias = Literal["auto", "never"]
Convert: TypeAlias = Annotated[
    Conversion,
    Parameter(
        name="--convert",
        help="Whether HEIC, AVIF, TIFF, BMP and larger pictures are made JPEG or PNG, or refused.",
    ),
]
ServiceName: TypeAlias = Literal["apimart", "applerouter"]
Service: TypeAlias = Annotated[ServiceName, Parameter(name="--service", help="Which of the two services.")]

KeepMetadata: TypeAlias = Annotated[
    bool, flag("--keep-metadata", "Send the place, camera and comments in pictures too; uploads are public.")
]
TaskIds: TypeAlias = Annotated[list[str], Parameter(name="IDS", negative=(), help="Ids of tasks.")]
OutputOrFile: TypeAlias = Annotated[
    Path,
    Parameter(
        name=("--output", "-o"),
        converter=output_path,
        help="Directory for the results, made when it is missing; or the file, such as out.jpg, for one.",
    ),
]
DryRun: TypeAlias = Annotated[
    bool, flag("--dry-run", "Only check, and print the request and an estimate of the cost.")
]
Output: TypeAlias = Annotated[
    Path,
    Parameter(
        name=("--output", "-o"),
        converter=output_path,
        help="Directory for the results, made when it is missing; or s3://, gs:// or az://bucket/folder.",
    ),
]
Json: TypeAlias = Annotated[
    bool, flag("--json", "Write JSON to stdout: one object a line, in the order of the arguments.")
]
Local: TypeAlias = Annotated[
    bool, flag("--local", "Try it without a key: an emulator on this machine does the work, for play money.")
]
Inline: TypeAlias = Annotated[
    bool, flag("--inline", "Send pictures inside the request instead of uploading them.")
]
Journal: TypeAlias = Annotated[
    str | None,
    Parameter(
        name="--journal",
        env_var="APIMART_JOURNAL",
        show_env_var=False,
        negative=(),
        help="Path of the journal elsewhere on this machine, or postgresql://... for one that several "
        "processes and machines share; APIMART_JOURNAL by default, which no list of processes shows.",
    ),
]
BaseUrl: TypeAlias = Annotated[
    list[str] | None,
    Parameter(
        name="--base-url",
        negative=(),
        help="The service; APIMART_BASE_URL or https://api.apimart.ai by default. Given several times "
        "or with commas: addresses of the same service, each used while those before are out of reach.",
    ),
]
Timeout: TypeAlias = Annotated[
    float | None, Parameter(name="--timeout", help="Seconds to wait for each task; 600 by default.")
]
Manifest: TypeAlias = Annotated[
    Path,
    Parameter(
        negative=(),
        converter=output_path,
        allow_leading_hyphen=True,  # for "-", the manifest on stdin; other such arguments are refused
        help="A .csv, .jsonl or .parquet file, a folder of images, or a pattern; - is stdin.",
    ),
]
RowPrompt: TypeAlias = Annotated[
    str | None,
    Parameter(
        name=("--prompt", "-p"), allow_leading_hyphen=True, help="For rows that have none of their own."
    ),
]
RowModel: TypeAlias = Annotated[
    str | None, Parameter(name=("--model", "-m"), help="For rows that name none.")
]
RowVariants: TypeAlias = Annotated[int, Parameter(name="-n", help="Variants, for rows that do not say.")]
RowOperation: TypeAlias = Annotated[
    Operation, Parameter(name="--operation", help="Operation of rows that name none.")
]
Recursive: TypeAlias = Annotated[
    bool, flag("--recursive", "Take the images in subfolders of the folder as well.")
]
SkipBad: TypeAlias = Annotated[
    bool, flag("--skip-bad", "Leave out rows that cannot be done, and do the others.")
]
AllowOutside: TypeAlias = Annotated[
    bool, flag("--allow-outside", "Let the manifest name images outside its folder: if you trust it.")
]
AllowWebhook: TypeAlias = Annotated[
    bool, flag("--allow-webhook", "Let the manifest choose an address that is told of the results.")
]


def check_timeout(timeout: float | None) -> None:
    """Check the option.

    Raises:
        UsageError: The timeout is not more than 0.
    """
    if timeout is not None and not timeout > 0:
        raise UsageError(f"--timeout must be more than 0 seconds, not {timeout:g}.")


def most_variants(service: ServiceName, model: str) -> int:
    """Return the greatest number of variants that a service takes for a model."""
    from apimart_async.resources.submission import max_n

    return max_n(model) if service == "apimart" else _APPLEROUTER_MAX_N


def manifest_options(
    service: ServiceName,
    *,
    prompt: str | None,
    model: str | None,
    n: int,
    operation: Operation,
    recursive: bool,
    output: Path,
    allow_outside: bool,
    allow_webhook: bool,
    convert: Conversion = "auto",
) -> ManifestOptions:
    """Check the options for rows without values of their own, and return them with the rights of a manifest.

    Raises:
        UsageError: The service has no such operation.
        InvalidArgumentError: No row can have one of them.
    """
    from apimart_async.batch.manifest.rows import ManifestOptions
    from apimart_async.batch.requests import APIMART_MODELS, APPLEROUTER_MODELS

    models = APIMART_MODELS if service == "apimart" else APPLEROUTER_MODELS
    if operation not in models:
        raise UsageError(f"--operation {operation} is for --service apimart.")
    named = model or models[operation]
    check_request(prompt or "", named, n, most_variants(service, named), has_prompt=prompt is not None)
    return ManifestOptions(
        prompt,
        model,
        n,
        operation,
        recursive=recursive,
        output=output,
        allow_outside=allow_outside,
        allow_webhook=allow_webhook,
        convert=convert != "never",
        models=models,
    )


def check_max_cost(max_cost: float | None, service: ServiceName) -> None:
    """Check the option.

    Raises:
        UsageError: The budget is not more than 0, or the service reports no costs.
    """
    if max_cost is not None and service != "apimart":
        raise UsageError("--max-cost is for --service apimart: AppleRouter reports no costs.")
    if max_cost is not None and not max_cost > 0:
        raise UsageError(f"--max-cost must be more than 0 USD, not {max_cost:g}.")


def distinct(arguments: Sequence[PathOrUrl]) -> list[str]:
    """Return the pictures in order, without those given before, so that none is paid for twice.

    Raises:
        UsageError: As for ``expanded``.
    """
    images = expanded(arguments)
    kept = list({_identity(image): image for image in reversed(images)}.values())[::-1]
    if len(kept) < len(images):
        say("A picture that is given twice is taken once.")
    return kept


def expanded(arguments: Sequence[PathOrUrl]) -> list[str]:
    """Return the pictures, with the matching files in place of patterns that no shell has expanded.

    Raises:
        UsageError: An argument is an option that the command does not have, a directory, or a pattern
            without a match.
    """
    return list(chain.from_iterable(_expanded(str(argument)) for argument in arguments))


def _expanded(image: str) -> list[str]:
    if image.startswith("-") and image != STDIN and not os.path.lexists(image):
        raise UsageError(f"Unknown option: {printable(image)}. --help lists the options.")
    if os.path.isdir(image):  # noqa: PTH112 a text
        pattern = printable(shlex.quote(os.path.join(image, "*.jpg")))  # noqa: PTH118 a text
        raise UsageError(f"{printable(image)} is a directory: give its pictures, such as {pattern}.")
    if "://" in image or not any(mark in image for mark in "*?[") or os.path.lexists(image):
        return [image]
    found = matches_of(os.path.expanduser(image))  # noqa: PTH111 as batches match
    matches = sorted(path for path in found if os.path.isfile(path))  # noqa: PTH113 a text
    if not matches:
        raise UsageError(f"No file matches {printable(image)}. Nothing was sent.")
    return matches


def _identity(image: str) -> str:
    return image if "://" in image or image == STDIN else os.path.realpath(image)


def opened(images: Sequence[str]) -> list[str | NamedFile]:
    """Return the pictures to send: the arguments, with the content of stdin in place of ``-``.

    Raises:
        UsageError: Stdin is a terminal, is closed or has too many bytes.
    """
    if STDIN not in images:
        return list(images)
    stdin = cast("TextIO | None", sys.stdin)
    if stdin is None or is_terminal(stdin):
        raise UsageError("- is the picture on stdin, but there is none: redirect it, as in < photo.jpg")
    content = stdin.buffer.read(_MOST_STDIN_BYTES + 1)
    if len(content) > _MOST_STDIN_BYTES:
        raise UsageError(f"The picture on stdin has more than {_MOST_STDIN_BYTES:,} bytes.")
    return [("stdin", content, None) if image == STDIN else image for image in images]


def check_images(
    images: Sequence[str | NamedFile], *, convert: Conversion, limit: int = inputs.MAX_UPLOAD_BYTES
) -> None:
    """Check every picture.

    Args:
        images: The pictures.
        convert: The option.
        limit: Maximum size of a picture in bytes.

    Raises:
        UsageError: Some pictures cannot be sent; the message has the reason for each.
    """

    async def problem(image: str | NamedFile) -> str | None:
        try:
            if forms.remote_url(image) is None:
                await inputs.open_media(image, limit=limit, convert=convert == "auto")
        except ImageError as error:
            return sentence(error.message)
        return None

    refuse_pictures(anyio.run(for_each, problem, images))


def refuse_pictures(found: Sequence[str | None]) -> None:
    """Raise an error with every problem that was found with pictures.

    Args:
        found: For each picture, its problem if it has one.

    Raises:
        UsageError: Some picture has a problem.
    """
    problems = [problem for problem in found if problem]
    if len(problems) == 1:
        raise UsageError(f"{problems[0]} Nothing was sent.")
    if problems:
        first = f"{len(problems)} of {len(found)} pictures cannot be sent, so none was:"
        raise UsageError("\n".join([first, *listed(problems)]))


def check_journal(journal: str | None, output: Path, *, local: bool) -> None:
    """Check that the journal is given where it is needed, and is not shared with an emulator.

    Raises:
        UsageError: It is missing, or shared.
    """
    if isinstance(output, ObjectPath) and local:
        raise UsageError("--local saves results on this machine only: name a directory.")
    if isinstance(output, ObjectPath) and not journal:
        raise UsageError(
            "A journal cannot be kept in object storage: name a file on this machine with --journal, or a "
            "postgresql:// URL."
        )
    if journal and local:
        raise UsageError(
            "--local keeps its journal with the results: leave --journal and APIMART_JOURNAL out."
        )


def check_journal_is_there(output: Path, journal: str | None, *, local: bool) -> None:
    """Check that the journal of a directory with results was not lost, or left behind by a copy.

    Raises:
        UsageError: Without it, the jobs of an earlier batch would be paid for again.
    """
    from apimart_async.batch.journal.opening import journal_path
    from apimart_async.batch.results import RESULTS

    if journal or local:
        return
    results, expected = output / RESULTS, journal_path(output)
    if not expected.exists() and results.is_file() and results.stat().st_size:
        raise UsageError(
            f"{results} lists the jobs of an earlier batch, but its journal {expected} is not there, so they "
            "would be paid for again. Put it back, or name it with --journal. "
            f"To start anew, delete {results}."
        )


def check_journal_is_named(journal: str | None, directory: Path | None) -> None:
    """Check that the journal to be read is named where the results are in object storage.

    Raises:
        UsageError: The journal is not named.
    """
    if isinstance(directory, ObjectPath) and not journal:
        raise UsageError("The journal of a batch in object storage is elsewhere: name it with --journal.")


def check_manifest(manifest: FoundManifest, output: Path) -> None:
    """Check the options that only some manifests have.

    Raises:
        UsageError: An option does not fit the manifest.
    """
    if manifest.options.recursive and manifest.kind != "folder":
        raise UsageError("--recursive is for a folder; in a pattern, ** stands for all subfolders.")
    if manifest.is_folder and output.resolve() == Path(manifest.folder.real):
        raise UsageError("The results would lie among the images: name another directory with -o.")


def check_directory_name(directory: Path) -> None:
    """Check that a path is a directory, or can be one, and make nothing.

    Raises:
        UsageError: The path is a file, or has the name of an image.
    """
    if isinstance(directory, ObjectPath):
        return
    if directory.exists() and not directory.is_dir():
        raise UsageError(f"{directory} is not a directory: name another one with -o.")
    if directory.suffix and not directory.exists():
        from apimart_async.batch.manifest.files import IMAGE_EXTENSIONS

        if directory.suffix.lower() in IMAGE_EXTENSIONS:
            raise UsageError(f"{directory} is the name of a file: name a directory with -o.")


def check_directory(directory: Path) -> None:
    """Make the directory for the results, and check that files can be written there.

    Raises:
        UsageError: Files cannot be written there.
    """
    if isinstance(directory, ObjectPath):
        _check_folder(directory)
        return
    check_directory_name(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(
            f"Nothing can be saved in {directory}: {reason}. Name another directory with -o."
        ) from error


def _check_folder(folder: ObjectPath) -> None:
    try:
        anyio.run(objects.check_writable, folder)
    except InvalidArgumentError as error:
        raise UsageError(error.message) from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"Nothing can be saved in {folder}: {reason}. Nothing was sent.") from error
