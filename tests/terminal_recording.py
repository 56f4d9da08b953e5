"""A command on a terminal of its own, recorded as it writes: asciicast version 2, which asciinema plays.

python tests/terminal_recording.py OUT.cast -- edge-sdk explain CLIP --bundle B --stream
"""

from __future__ import annotations

import argparse
import codecs
import fcntl
import json
import os
import pty
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

from edge_sdk.files import write_bytes

COLUMNS, ROWS = 120, 24
_MOST_S = 300.0


def record(words: Sequence[str], *, columns: int = COLUMNS, rows: int = ROWS, title: str = "") -> tuple[bytes, int]:
    """Run `words` on a terminal; the recording, and the exit status. Raises `TimeoutError` after five minutes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)}
    begun_s = time.monotonic()
    head = {"version": 2, "width": columns, "height": rows, "title": title or " ".join(words)}
    lines, decoder = [json.dumps(head)], codecs.getincrementaldecoder("utf-8")("replace")
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs, env=env) as process:
        os.close(theirs)
        try:
            while data := _read(ours):
                at_s = time.monotonic() - begun_s
                if at_s > _MOST_S:
                    raise TimeoutError(f"{words[0]} still writes after {_MOST_S:g} s")
                if text := decoder.decode(data):
                    lines.append(json.dumps([round(at_s, 3), "o", text]))
        finally:
            os.close(ours)
            if process.poll() is None and time.monotonic() - begun_s > _MOST_S:
                process.kill()
    return ("\n".join(lines) + "\n").encode(), process.returncode


def _read(terminal: int) -> bytes:
    """What was written next; nothing at the end, which Linux tells by an error once the last writer is gone."""
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        return b""


def main() -> None:
    """Record and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--title", default="")
    parser.add_argument("words", nargs="+", help="the command, behind --")
    chosen = parser.parse_args()
    cast, status = record(chosen.words, title=chosen.title)
    write_bytes(chosen.out, cast)
    print(f"{chosen.out}: {len(cast):,} bytes, exit status {status}")


if __name__ == "__main__":
    main()
