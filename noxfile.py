"""The checks of the project: `nox` runs the usual ones, `nox -s tests` one of them, `nox -l` lists all.

Only Python and pip are needed; uv creates the environments faster if it is installed.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import nox

nox.needs_version = ">=2025.2.9"
nox.options.default_venv_backend = "uv|virtualenv"
nox.options.download_python = "never"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = [
    *("tests", "tests_long", "tests_others", "clients", "fleet", "storage", "tests_lowest"),
    *("lint", "types", "imports", "sync_check", "docs", "build"),
]

ROOT = Path(__file__).resolve().parent
PYPROJECT = nox.project.load_toml("pyproject.toml")

SUPPORTED = nox.project.python_versions(PYPROJECT)
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"

# Safe path: neither pytest nor a subprocess it starts can import the checkout's package by accident.
INSTALLED_ONLY = {
    "PYTHONSAFEPATH": "1",
    "TESTS_NEED_INSTALLED_PACKAGE": "1",
    # The tests start hundreds of interpreters; without bytecode files, each would compile all modules again.
    "PYTHONDONTWRITEBYTECODE": None,
}


def group(name: str) -> list[str]:
    """Return the requirements of a dependency group of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, name))


def built_wheel(session: nox.Session) -> Path:
    """Return the wheel that this run's `wheel` session built."""
    (path,) = Path(session.cache_dir, "wheel").glob("*.whl")
    return path.resolve()


def install_for_tests(session: nox.Session, *requirements: str) -> None:
    """Install the built wheel, the newest dependencies unless told otherwise, and the photographs."""
    session.install(f"{built_wheel(session)}[all]", *group("tests"), *requirements)
    # Again without dependencies: an environment that is used again has a wheel of the same version.
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)), *group("photographs"))


def run_pytest(session: nox.Session, *options: str) -> None:
    """Run the tests, or those named after `--`; many of them wait, so that two workers share a core."""
    workers = (f"--numprocesses={min(2 * (os.cpu_count() or 1), 8)}", "--dist=load", "--maxschedchunk=1")
    session.run("pytest", *workers, *options, *session.posargs, env=INSTALLED_ONLY)


@nox.session
def wheel(session: nox.Session) -> None:
    """Build the wheel that the other sessions install, once a run; `TESTED_WHEEL` names one that is built."""
    directory = Path(session.cache_dir, "wheel")
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.whl"):
        stale.unlink()
    if given := os.environ.get("TESTED_WHEEL"):
        shutil.copy(given, directory)
        return
    session.install(*PYPROJECT["build-system"]["requires"])
    session.run("hatchling", "build", "--target", "wheel", "--directory", str(directory.resolve()))


@nox.session(requires=["wheel"])
def tests(session: nox.Session) -> None:
    """Test the built wheel with the newest dependencies, on the Python that runs nox."""
    install_for_tests(session)
    run_pytest(session, "-m", "not long")


@nox.session(requires=["wheel"])
def tests_long(session: nox.Session) -> None:
    """Run the tests that `tests` leaves out because they take long."""
    install_for_tests(session)
    run_pytest(session, "-m", "long")


@nox.session(python=[version for version in SUPPORTED if version != RUNNING], requires=["wheel"])
def tests_others(session: nox.Session) -> None:
    """Run `tests` on each other supported Python that is installed."""
    install_for_tests(session)
    run_pytest(session, "-m", "not long")


@nox.session(requires=["wheel"])
def clients(session: nox.Session) -> None:
    """Test the emulator with curl, requests and openai, and the recipes that need other packages."""
    install_for_tests(session, *group("clients"))
    session.run("pytest", "tests/clients", *session.posargs, env=INSTALLED_ONLY)


@nox.session(requires=["wheel"])
def fleet(session: nox.Session) -> None:
    """Test the journal in PostgreSQL, with processes and servers that are killed."""
    install_for_tests(session, *group("fleet"))
    # A server for each file: one file's kill of its server leaves the others alone.
    session.run(
        *("pytest", "tests/fleet", "--numprocesses=2", "--dist=loadfile"),
        *session.posargs,
        env=INSTALLED_ONLY,
    )


@nox.session(requires=["wheel"])
def storage(session: nox.Session) -> None:
    """Test object storage with an S3 server, and with processes that are killed."""
    install_for_tests(session, *group("storage"))
    session.run("pytest", "tests/storage", *session.posargs, env=INSTALLED_ONLY)


@nox.session(requires=["wheel"])
def fleet_ray(session: nox.Session) -> None:
    """Test `Fleet.ray` on a cluster whose parts are killed; takes minutes, and is left out of `nox` alone.

    It runs where loopback is the only network: Ray looks for cloud metadata services even without statistics.
    """
    install_for_tests(session, f"{built_wheel(session)}[ray]", *group("fleet"))
    # Root keeps its rights outside, because PostgreSQL is run by another user.
    user = () if os.geteuid() == 0 else ("--user", "--map-current-user", "--keep-caps")
    command = 'ip link set lo up && exec pytest tests/fleet_ray "$@"'
    session.run(
        *("unshare", "--net", *user, "sh", "-c", command, "sh", *session.posargs),
        env=INSTALLED_ONLY,
        external=True,
    )


@nox.session(requires=["wheel"])
def tests_lowest(session: nox.Session) -> None:
    """Test the built wheel with the oldest dependencies that pyproject.toml allows."""
    session.install("uv")
    lowest = Path(session.create_tmp(), "lowest.txt").resolve()
    direct = ("--no-deps", "--all-extras", "--resolution=lowest-direct", f"--python-version={RUNNING}")
    session.run("uv", "pip", "compile", "pyproject.toml", *direct, f"--output-file={lowest}")
    install_for_tests(session, "--constraint", str(lowest))
    # The long tests find no fault of old dependencies that the quick tests miss.
    run_pytest(session, "-m", "not long")


@nox.session
def audit(session: nox.Session) -> None:
    """Audit the newest and the oldest dependencies; needs the advisories of the package index."""
    session.install("uv", "pip-audit>=2.10")
    for resolution in ("highest", "lowest-direct"):
        pinned = Path(session.create_tmp(), f"{resolution}.txt").resolve()
        options = ("--all-extras", f"--resolution={resolution}", f"--output-file={pinned}")
        session.run("uv", "pip", "compile", "--quiet", "pyproject.toml", *options)
        # Strict: a dependency without data fails, so that an unreachable index is no good result.
        session.run("pip-audit", "--strict", "--no-deps", "--disable-pip", "--requirement", str(pinned))


@nox.session(requires=["wheel"])
def crash(session: nox.Session) -> None:
    """Kill batches at 40 random moments with each of 3 seeds, and at every named point; takes minutes."""
    session.install(f"{built_wheel(session)}[all]", *group("tests"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    moments = {"CRASH_MOMENTS": "40", "CRASH_SEEDS": "1,2,3"}
    session.run("pytest", "tests/batch/test_crash.py", *session.posargs, env=INSTALLED_ONLY | moments)


@nox.session(requires=["wheel"])
def stress(session: nox.Session) -> None:
    """Send 50,000 edits, not 2,000, through every fault at once: some minutes for each of six runs."""
    session.install(f"{built_wheel(session)}[all]", *group("tests"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    edits = {"STRESS_EDITS": "50000"}
    workers = ("--numprocesses=auto", "--maxprocesses=6")
    session.run("pytest", "tests/test_stress.py", *workers, *session.posargs, env=INSTALLED_ONLY | edits)


@nox.session(requires=["wheel"])
def fuzz(session: nox.Session) -> None:
    """Make 20,000 disturbed calls with each loop, with and without TLS; `-- --calls 100000` makes more."""
    session.install(f"{built_wheel(session)}[speed]", *group("fuzz"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    for options in ((), ("--tls",), ("--uvloop",), ("--tls", "--uvloop")):
        session.run("python", "tests/fuzz.py", *options, *session.posargs, env=INSTALLED_ONLY)


@nox.session(requires=["wheel"])
def report(session: nox.Session) -> None:
    """Test the report in Chromium, which has to be installed; `tests` does so only where it is."""
    session.install(f"{built_wheel(session)}[all]", *group("tests"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    browser = INSTALLED_ONLY | {"TESTS_NEED_BROWSER": "1"}
    session.run("pytest", "-m", "browser", "tests/batch", *session.posargs, env=browser)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install(*group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session(requires=["wheel"])
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, and that the public interface is typed completely."""
    session.install(f"{built_wheel(session)}[all]", *group("types"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    session.run("mypy")
    session.run("pyright")
    session.run("pyright", "--verifytypes", "apimart_async", "--ignoreexternal")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that each floor of the package imports only the floors below it."""
    session.install("-e", ".[all]", *group("imports"))
    session.run("lint-imports")


@nox.session
def sync(session: nox.Session) -> None:
    """Generate the blocking twin and its tests from the async sources and tests."""
    session.install("-e", ".")
    session.run("python", "-m", "apimart_async.sync.generate", *session.posargs)
    session.run("python", "tests/sync/generate_tests.py", *session.posargs)


@nox.session
def sync_check(session: nox.Session) -> None:
    """Check that the blocking twin and its tests are up to date."""
    session.install("-e", ".")
    session.run("python", "-m", "apimart_async.sync.generate", "--check")
    session.run("python", "tests/sync/generate_tests.py", "--check")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation; a warning is an error."""
    session.install("-e", ".[all]", *group("docs"))
    # Pages of removed names, and menus of unchanged pages, would stay.
    shutil.rmtree("docs/reference/api", ignore_errors=True)
    options = ("-W", "--keep-going", "--fresh-env", "--write-all", "-b", "html")
    session.run("sphinx-build", *options, "docs", "docs/_build/html", *session.posargs)


@nox.session(requires=["wheel"])
def bench(session: nox.Session) -> None:
    """Measure the package beside other clients, and write benchmarks/RESULTS.md; `-- --quick` is shorter."""
    session.install(f"{built_wheel(session)}[cli,speed]", *group("bench"))
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session(requires=["wheel"])
def bench_guard(session: nox.Session) -> None:
    """Check the processor time of the package against that of plain aiohttp."""
    session.install(f"{built_wheel(session)}[speed]")
    session.install("--no-deps", "--force-reinstall", str(built_wheel(session)))
    session.run("python", "-m", "benchmarks.guard")


@nox.session
def build(session: nox.Session) -> None:
    """Build the sdist, and from it the wheel, into dist/, and check their content."""
    session.install(*group("build"))
    directory = ROOT / "dist"
    for stale in directory.glob("apimart_async-*"):
        stale.unlink()
    session.run("python", "-m", "build", "--outdir", str(directory))
    archives = sorted(directory.glob("apimart_async-*"))
    session.run("twine", "check", "--strict", *map(str, archives))
    (built,) = (path for path in archives if path.suffix == ".whl")
    names = set(ZipFile(built).namelist())
    package = ROOT / "apimart_async"
    templates = {f"{path.relative_to(ROOT)}" for path in package.glob("batch/report/templates/*")}
    sources = {f"{path.relative_to(ROOT)}" for path in package.rglob("*.py")}
    excluded = set(PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["exclude"])
    data = templates | {"apimart_async/py.typed"}
    expected = sources - excluded | data
    found = {name for name in names if name.endswith(".py")} | data & names
    if found != expected:
        session.error(f"The wheel differs from the sources: {sorted(found ^ expected)}")
