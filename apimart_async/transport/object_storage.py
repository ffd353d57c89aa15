"""Object storage: URLs of objects as paths, stores built from them, and the errors of stores in plain words.

A store is built in the process that uses it, from the URL and the environment, so that neither a path nor its
pickle holds a credential.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PosixPath, PurePath
from typing import TYPE_CHECKING, Final, NoReturn, Self

from apimart_async.errors import InvalidArgumentError

if TYPE_CHECKING:
    from collections.abc import Generator

    from obstore.store import ObjectStore, RetryConfig

_CLOUDS: Final = ("s3", "gs", "az")
_SCHEMES: Final = (*_CLOUDS, "memory", "file")
_URL: Final = re.compile(rf"({'|'.join(_SCHEMES)})://", re.IGNORECASE)
# pathlib makes one slash of several.
_COLLAPSED: Final = re.compile(rf"({'|'.join(_SCHEMES)}):/+(?=[^/])")
_BUCKET: Final = re.compile(r"[A-Za-z0-9._-]+")
_VARIABLES: Final = ("AWS_", "AZURE_", "GOOGLE_")
_STORES_KEPT: Final = 64
_LONGEST_REASON: Final = 160
_NO_BUCKET: Final = re.compile("NoSuchBucket|ContainerNotFound")

_RETRY: Final[RetryConfig] = {"max_retries": 5, "retry_timeout": timedelta(seconds=30)}


class ObjectPath(PosixPath):
    """The URL of an object, or of a folder of objects, such as ``s3://bucket/edited/photo.png``.

    Its parts, names and parents are those of any path, and ``str()`` is the URL. A function that needs a file
    on disk, such as ``open()``, raises a ``TypeError``; ``read_bytes()`` and ``exists()`` ask the store.

    .. versionadded:: 0.1
    """

    __slots__ = ()

    def __new__(cls, *parts: str | os.PathLike[str]) -> Self:
        """Return the path of the parts; on Windows too, where the base class would refuse."""
        return PurePath.__new__(cls, *parts)

    def __str__(self) -> str:
        return _COLLAPSED.sub(r"\1:///" if self.parts[:1] == ("file:",) else r"\1://", super().__str__(), 1)

    def __fspath__(self) -> NoReturn:
        raise TypeError(f"{self} is an object in a store and has no path on disk: use str() or read_bytes().")

    @property
    def bucket(self) -> str:
        """URL of the bucket or container."""
        return "file:///" if self.parts[0] == "file:" else f"{self.parts[0]}//{self.parts[1]}"

    @property
    def key(self) -> str:
        """Key in the bucket, without a leading slash; empty for the bucket itself."""
        return "/".join(self.parts[1 if self.parts[0] == "file:" else 2 :])

    def absolute(self) -> Self:
        """Return the path: a URL is absolute."""
        return self

    def resolve(self, strict: bool = False) -> Self:  # noqa: ARG002, FBT001, FBT002 as the base class
        """Return the path: a store has no links."""
        return self

    def read_bytes(self) -> bytes:
        """Return the content of the object; blocks.

        Raises:
            OSError: The store did not give it.
        """
        with explained():
            return bytes(store_of(self).get(self.key).bytes())

    def exists(self, *, follow_symlinks: bool = True) -> bool:  # noqa: ARG002 as the base class
        """Tell whether the object exists; blocks.

        Raises:
            OSError: The store did not answer.
        """
        try:
            with explained():
                store_of(self).head(self.key)
        except FileNotFoundError:
            return False
        return True


def is_object_url(value: object) -> bool:
    """Tell whether a value is the URL of an object or a folder of objects."""
    return isinstance(value, ObjectPath) or (isinstance(value, str) and _URL.match(value) is not None)


class TakenError(OSError):
    """There is an object of this name already."""


class ChangedError(OSError):
    """An object is not the one that was asked for any more."""


def any_path(value: str | os.PathLike[str]) -> Path:
    """Return the path of a folder or a file, on disk or in object storage.

    Raises:
        InvalidArgumentError: It is the URL of no bucket, or no system has such a path.
    """
    if isinstance(value, ObjectPath):
        return value
    if isinstance(value, str) and is_object_url(value):
        return object_path(value)
    path = Path(value)
    try:
        is_possible = b"\0" not in os.fsencode(path)
    except UnicodeEncodeError:
        is_possible = False
    if not is_possible:
        raise InvalidArgumentError(f"{str(path)!r} cannot be a path.")
    return path


def object_path(url: str) -> ObjectPath:
    """Return the path of an object or a folder of objects.

    Raises:
        InvalidArgumentError: It is the URL of no bucket.
    """
    scheme, _, rest = url.partition("://")
    path = ObjectPath(f"{scheme.lower()}://{rest}")
    if ".." in path.parts:
        raise InvalidArgumentError(f"A key cannot hold '..': write the URL of {path.parts[0]}// out.")
    if path.parts[0] == "file:":
        if not rest.startswith("/"):
            raise InvalidArgumentError("A file: URL needs an absolute path: file:///folder.")
    elif len(path.parts) == 1 or _BUCKET.fullmatch(path.parts[1]) is None:
        # Without the URL itself, which may hold a password.
        raise InvalidArgumentError(
            f"A URL of object storage is {path.parts[0]}//bucket/folder. It holds no credentials, which come "
            "from the environment."
        )
    return path


def exact_path(url: str) -> ObjectPath:
    """Return the path of an object, unless a path leaves out a part of its key: that is another object.

    Raises:
        InvalidArgumentError: It is the URL of no bucket, or of a key with ``//`` or ``/./``.
    """
    path, rest = object_path(url), url.partition("://")[2]
    if path.parts[0] != "file:" and ("//" in rest or "." in rest.split("/")):
        raise InvalidArgumentError("The key of an image cannot hold '//' or '/./': rename the object.")
    return path


def store_of(path: ObjectPath) -> ObjectStore:
    """Return the store of a path, with the credentials of the environment; one for all calls of a process.

    Raises:
        InvalidArgumentError: The extra ``storage`` is missing.
        OSError: The environment does not describe the store.
    """
    is_cloud = path.parts[0].removesuffix(":") in _CLOUDS
    environment = {name: value for name, value in os.environ.items() if name.startswith(_VARIABLES)}
    # A changed environment makes another store, and so does a fork.
    return _store(path.bucket, os.getpid(), tuple(sorted(environment.items())) if is_cloud else ())


@lru_cache(_STORES_KEPT)
def _store(bucket: str, _process: int, _environment: tuple[tuple[str, str], ...]) -> ObjectStore:
    try:
        from obstore.store import LocalStore, MemoryStore, from_url
    except ModuleNotFoundError as missing:
        raise InvalidArgumentError(
            "Object storage needs obstore: pip install '.[storage]' in the clone"
        ) from missing
    if bucket.startswith("memory:"):
        return MemoryStore()
    if bucket.startswith("file:"):
        return LocalStore("/")
    with explained():
        # Options of the client would hide those of the environment, such as AWS_ALLOW_HTTP.
        return from_url(bucket, retry_config=_RETRY)


@contextmanager
def explained() -> Generator[None]:
    """Raise an error of a store in the body as an ``OSError`` with its reason in words.

    The message of a store may quote the request or the answer, and with it a signature or a token; it goes
    into no error, log or journal.
    """
    try:
        yield
    except FileNotFoundError as error:
        if _NO_BUCKET.search(str(error)):
            raise _reason(error) from None
        raise FileNotFoundError(errno.ENOENT, "the object, or its bucket, does not exist") from None
    except (OSError, InvalidArgumentError):
        raise
    except Exception as error:
        is_of_store = type(error).__module__.startswith("obstore")
        if not is_of_store and not isinstance(error, (ValueError, NotImplementedError)):
            raise
        raise _reason(error) from None


# The numbers are those of folders that cannot be written: every job would fail.
_NO_CREDENTIALS: Final = r"169\.254\.|latest/api/token|metadata|[Cc]redential|must be specified"
_REASONS: Final = (
    (_NO_BUCKET.pattern, errno.ENOTDIR, "the bucket does not exist"),
    (r"^PermissionDenied", errno.EACCES, "access is denied"),
    (r"^Unauthenticated", errno.EACCES, "the credentials are not accepted"),
    (_NO_CREDENTIALS, errno.EACCES, "there are no credentials in the environment"),
    (r"http://.*builder error", errno.ENOTDIR, "its address has http://, which AWS_ALLOW_HTTP=true permits"),
)


def _reason(error: Exception) -> OSError:
    text = f"{type(error).__name__} {error}".partition("\n\nDebug source")[0]
    if text.startswith("PreconditionError"):
        return ChangedError("the object has changed")
    if text.startswith("AlreadyExistsError"):
        return TakenError("there is an object of this name already")
    for pattern, number, reason in _REASONS:
        if re.search(pattern, text):
            return OSError(number, reason)
    status = re.search(r"status code: (\d{3}[A-Za-z ]*)", text)
    if status:
        code = re.search(r"<Code>(\w+)</Code>", text)
        return OSError(f"the store answered {status[1].strip()}{f' ({code[1]})' if code else ''}")
    rest = re.sub(r"\S+://\S*", "", text.rpartition(" - ")[2]).strip() if " - " in text else ""
    return OSError(f"the store cannot be used{f': {rest}' if rest else ''}"[:_LONGEST_REASON])
