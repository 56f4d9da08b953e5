"""Terminal output and exit codes: lines, a progress line with an estimate, errors as one line."""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import typer

from edge_sdk.errors import ConfigError, EdgeError, MissingDependencyError, RuntimeFailure
from edge_sdk.files import FULL
from edge_sdk.outputs import is_closed_pipe, leave_silently, prepare_outputs, silence
from edge_sdk.packages import extra_of, missing

REFRESH_S = 0.2
# System errors that are not the caller's fault, and that may pass by themselves or when another process ends.
_PASSING = FULL | {
    errno.EAGAIN,
    errno.EINTR,
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOMEM,
    errno.ESTALE,
    errno.ETIMEDOUT,
}
# torch has its own out-of-memory errors. They are recognised by class name and text, because torch may be missing.
_GPU_CLASS = "OutOfMemoryError"
_GPU_FULL = re.compile(r"CUDA error: out of memory|(?:CUBLAS|CUDNN)_STATUS_ALLOC_FAILED")
_HOST_FULL = re.compile(
    r"DefaultCPUAllocator: (?:can't allocate|not enough) memory|unable to mmap .*Cannot allocate memory"
)


def say(line: str) -> None:
    """Print one line to stdout, at once."""
    typer.echo(line)
    sys.stdout.flush()


def warn(lines: Iterable[str]) -> None:
    """Print lines to stderr as warnings: something was odd, although the work was done."""
    for line in lines:
        typer.echo(f"edge-sdk: warning: {without_secrets(line)}", err=True)


def without_secrets(text: str) -> str:
    """`text` with user names, passwords and secret-looking values of the addresses in it hidden."""
    if "@" not in text and "=" not in text:
        return text  # neither is written without one of these; most texts need no loading of `capture`
    from edge_sdk.capture.redaction import redact_typed

    return redact_typed(text)


def parse_size(text: str) -> tuple[int, int]:
    """`"320x192"` as (width, height). Raises `ConfigError` for anything else."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ConfigError(f"a size is WIDTHxHEIGHT in pixels, such as 320x192; found {text!r}")
    return int(parts[0]), int(parts[1])


def bar(value: float, width: int = 20) -> str:
    """A bar of `width` characters for a value in 0..1."""
    filled = round(min(max(value, 0.0), 1.0) * width)
    return "█" * filled + "·" * (width - filled)


class Progress:
    """A line on stderr that counts what is done and estimates the time left. Call it with (done, total)."""

    def __init__(self, label: str, *, quiet: bool = False) -> None:
        self._label = label
        self._quiet = quiet
        self._live = sys.stderr.isatty()
        self._started_s = time.monotonic()
        self._shown_s = 0.0
        self._tenth, self._note = 0, ""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Show `done` of `total`: a terminal's line is redrawn; elsewhere, a line is printed for each tenth.

        A note that differs from the last is shown at once.
        """
        now_s = time.monotonic()
        if self._quiet or (done < total and note == self._note and not self._due(done, total, now_s)):
            return
        self._shown_s, self._tenth, self._note = now_s, 10 * done // max(total, 1), note
        spent_s = now_s - self._started_s
        left = f"{duration(spent_s / done * (total - done))} left" if 0 < done < total else duration(spent_s)
        line = f"{self._label} {done}/{total} {bar(done / max(total, 1))} {left} {note}".rstrip()
        sys.stderr.write(f"\r\x1b[K{line}" if self._live else line + "\n")
        sys.stderr.flush()

    def _due(self, done: int, total: int, now_s: float) -> bool:
        if self._live:
            return now_s - self._shown_s >= REFRESH_S
        return 10 * done // max(total, 1) > self._tenth

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live and not self._quiet:
            sys.stderr.write("\n")


def duration(seconds: float) -> str:
    """`75` as `1:15`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def run_script(main: Callable[[], int]) -> NoReturn:
    """Run `main`, then exit with the code that it returns, or with the code of its error, as `edge-sdk` does."""
    with exit_codes(Path(sys.argv[0]).stem):
        code = main()
    sys.exit(code)


@contextmanager
def exit_codes(program: str) -> Iterator[None]:
    """Turn an error that is not a bug of ours into one line on stderr, after `program`, and an exit code.

    An `EdgeError` has its own code. The code is 2 for an unusable path, and 3 for a missing package of an extra, for a
    path whose trouble may pass (a full disk, a share that does not answer) and for memory that ran out, of the machine
    or its GPU. Ctrl-C exits with 130, and an output whose reader is gone with 141, silently.
    """
    prepare_outputs()
    try:
        yield
    except SystemExit as left:
        if left.code == 1 and is_closed_pipe(left.__context__):  # as Typer and Rich leave for it
            leave_silently()
        raise
    except EdgeError as error:
        _leave(program, str(error), error.exit_code)
    except ModuleNotFoundError as error:
        _leave(program, _missing(error), MissingDependencyError.exit_code)
    except (MemoryError, RuntimeError) as error:
        _leave(program, _memory_ran_out(error), RuntimeFailure.exit_code)
    except OSError as error:
        if is_closed_pipe(error):
            leave_silently()
        # For an error that may pass, use the code that tells a service manager to start the program again.
        code = RuntimeFailure.exit_code if error.errno in _PASSING else ConfigError.exit_code
        _leave(program, _of_path(error), code)
    except KeyboardInterrupt:
        sys.exit(130)  # 128 and the number of SIGINT, as shells have it


def _leave(program: str, text: str, code: int) -> NoReturn:
    try:
        typer.echo(f"{program}: {without_secrets(text)}", err=True)
    except OSError:
        silence(sys.stderr)
    sys.exit(code)


def _missing(error: ModuleNotFoundError) -> str:
    package = (error.name or "").split(".")[0]
    extra = extra_of(package)
    if extra is None:
        raise error
    return missing(package, extra)


def _memory_ran_out(error: MemoryError | RuntimeError | OSError) -> str:
    """Which memory ran out, and what to do; raises `error` again if it is about something else."""
    told = str(error)
    if any(each.__name__ == _GPU_CLASS for each in type(error).__mro__) or _GPU_FULL.search(told):
        where, instead = "the GPU's memory", "take a smaller model, or compute on the CPU (--device cpu)"
    elif isinstance(error, (MemoryError, OSError)) or _HOST_FULL.search(told):
        where, instead = "memory", "add memory or swap, or take a smaller model"
    else:
        raise error
    # The first sentences say how much was asked for; torch's further advice is for the program's authors.
    detail = ". ".join(told.partition("\n")[0].split(". ")[:2]).rstrip(".")
    return f"{where} ran out{f' ({detail})' if detail else ''}; close other programs, {instead}"


def _of_path(error: OSError) -> str:
    """What is wrong with a path that the caller gave, or that there is no room.

    Raises `error` again if it names a path inside this package, or no path: that is a bug of ours.
    """
    if error.errno in FULL:
        place = f"{os.fsdecode(error.filename)} is not written: " if error.filename else ""
        return f"{place}{error.strerror}; free some disk space, or choose another folder"
    if error.errno == errno.ENOMEM and error.filename is None:
        return _memory_ran_out(error)
    if not isinstance(error.filename, (str, bytes)):
        raise error
    path = Path(os.fsdecode(error.filename))
    if Path(__file__).parent in path.absolute().parents:
        raise error
    mend = "try again" if error.errno in _PASSING else "check the path and its permissions"
    return f"{path}: {error.strerror}; {mend}"
