"""Completion by the Tab key: the scripts of cyclopts with their gaps closed, and the lines that load them."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeAlias

from cyclopts import App
from cyclopts.completion.detect import ShellDetectionError, detect_shell

from apimart_async.cli.display.output import say, write_line
from apimart_async.cli.signals import Exit, UsageError

Shell: TypeAlias = Literal["bash", "zsh", "fish"]

_COMMAND_IN_BASH: Final = '[[ " $all_commands " =~ " $word " ]]'
_COMMAND_IN_FISH: Final = 'string match -q -- "* $word *" " $all_commands "'
_VERSION_IN_ZSH: Final = "'--version["
# `-v` and `-q` are taken from the arguments before cyclopts reads them, so cyclopts does not know them.
_VERBOSITY_IN_ZSH: Final = (
    "'-v[Log submits, retries, costs and saved files.]' '-vv[Log each HTTP request too.]'"
    " '-q[No progress and no summary, only errors.]' "
)
# An argument without an action keeps zsh from inserting options; `:` is the command that completes nothing.
_WITHOUT_ACTION_IN_ZSH: Final = re.compile(r"^ +'(?:\*|\d+):(?:[^':\\]|\\.)*(?=')", re.MULTILINE)
_LOADING_IN_ZSH: Final = """\
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }
autoload -Uz SCRIPT && compdef NAME apimart
"""


def install(app: App, shell: Shell | None) -> Exit:
    """Write the completion script of a shell, and let the shell load it.

    Args:
        app: The whole application, with all commands imported.
        shell: By default, the shell that started this process, or that of the variable SHELL.

    Raises:
        UsageError: The shell is unknown, or a file cannot be written.
    """
    try:
        known = shell or detect_shell()
    except ShellDetectionError:
        raise UsageError("The shell is not known: name it with --shell.") from None
    if known == "powershell":
        raise UsageError("There is no completion for PowerShell; --shell is bash, zsh or fish.")
    script = _script(app, known)
    try:
        path = _place(script, known)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(script, encoding="utf-8")
        _load(path, known)
    except OSError as error:
        raise UsageError(f"The completion cannot be installed: {error}") from error
    write_line(str(path))
    say(f"Completion for {known} is installed; it works in every shell that is started from now on.")
    return Exit.ALL_DONE


def _script(app: App, shell: Shell) -> str:
    script = app.generate_completion(shell=shell)
    # Only `task`, `batch` and `fleet` have commands below them: any other word may be a file named `report`.
    paths = list(_command_paths(app, ""))
    match shell:
        case "bash":
            is_command = f'[[ ";{";".join(paths)};" == *";${{cmd_path[*]}} $word;"* ]]'
            script = script.replace(_COMMAND_IN_BASH, is_command)
            # Names of files may have spaces, and folders get a slash.
            files = "COMPREPLY=( $(compgen -f "
            script = script.replace(files, f"local IFS=$'\\n'; {files}")
            return script.replace("complete -F ", "complete -o default -o filenames -F ")
        case "zsh":
            script = _WITHOUT_ACTION_IN_ZSH.sub(r"\g<0>:{:}", script)
            return script.replace(_VERSION_IN_ZSH, _VERBOSITY_IN_ZSH + _VERSION_IN_ZSH)
        case "fish":
            is_command = f'contains -- "$subcommands $word" {shlex.join(paths)}'
            return script.replace(_COMMAND_IN_FISH, is_command)


def _command_paths(app: App, above: str) -> Iterator[str]:
    """Yield each command with the commands above it, as ``" edit"`` or ``"task get"``."""
    for name in app:
        if not name.startswith("-"):
            yield f"{above} {name}"
            yield from _command_paths(app[name], f"{above} {name}".strip())


def _place(script: str, shell: Shell) -> Path:
    home = Path.home()
    match shell:
        case "bash":
            return home / ".local/share/bash-completion/completions/apimart"
        case "zsh":
            # zsh loads a function from the file of the same name.
            (name,) = re.findall(r"^(_\w+)\(\) \{", script, re.MULTILINE)
            return home / ".zsh/completions" / str(name)
        case "fish":
            return _configured("XDG_CONFIG_HOME", home / ".config") / "fish/completions/apimart.fish"


def _load(path: Path, shell: Shell) -> None:
    """Add the lines that load a script to the file that the shell reads first, unless they are there."""
    quoted = shlex.quote(str(path))
    if shell == "bash":
        startup, lines = Path.home() / ".bashrc", f"[ -f {quoted} ] && . {quoted}\n"
    elif shell == "zsh":
        startup = _configured("ZDOTDIR", Path.home()) / ".zshrc"
        lines = _LOADING_IN_ZSH.replace("SCRIPT", quoted).replace("NAME", path.name)
    else:
        return  # fish looks into that directory by itself
    present = startup.read_bytes() if startup.exists() else b""
    if lines.encode() not in present:
        with startup.open("ab") as file:
            file.write(b"\n" * (not present.endswith(b"\n") and bool(present)))
            file.write(f"# Completion of apimart\n{lines}".encode())


def _configured(variable: str, default: Path) -> Path:
    return Path(os.environ.get(variable) or default)
