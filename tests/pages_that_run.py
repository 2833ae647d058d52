"""Runs the blocks of a page of the docs, and compares what they print with what the page shows of it."""

import contextlib
import io
import re
import shlex
import subprocess
from pathlib import Path

import warm_start

BLOCK = re.compile(r"^```(python|bash|text)\n(.*?)^```", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d[\d,]*\.?\d*(?:e[-+]?\d+)?")


def same(shown: str, printed: str) -> bool:
    """Whether a line of the page is the printed one, numbers to 3 %, up to the dots it may end in."""
    start, dots, _ = shown.partition("...")
    words = [" ".join(NUMBER.sub("#", line).split()) for line in (start, printed)]
    numbers = [[float(n.replace(",", "")) for n in NUMBER.findall(line)] for line in (start, printed)]
    if dots:
        words[1], numbers[1] = words[1][: len(words[0])], numbers[1][: len(numbers[0])]
    near = [abs(a - b) <= 0.03 * abs(b) + 0.011 for a, b in zip(*numbers, strict=False)]
    return words[0] == words[1] and len(numbers[0]) == len(numbers[1]) and all(near)


def run_python(code: str, names: dict) -> str:
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        exec(code, names)
    return told.getvalue()


def run_commands(block: str, folder: Path, fails: bool) -> str:
    """Run `massmap-jax ...`, without its figures, or a file that is typed in."""
    if not block.startswith("massmap-jax"):
        return subprocess.run(["bash", "-ec", block], cwd=folder, capture_output=True, text=True, check=True).stdout
    _, *arguments = shlex.split(block.replace("\\\n", " "))
    ended = warm_start.run([*arguments, *(["--no-figures"] if arguments[0] == "run" else [])], folder)
    assert (ended.returncode != 0) == fails, ended.stderr
    return ended.stdout + ended.stderr


def run_page(text: str, folder: Path) -> None:
    blocks = BLOCK.findall(text)
    names, told = {}, ""
    for (kind, code), (next_kind, following) in zip(blocks, [*blocks[1:], ("", "")], strict=True):
        if kind == "python":
            told = run_python(code, names)
        elif kind == "bash":
            told = run_commands(code, folder, fails=next_kind == "text" and following.startswith("error:"))
        else:
            missing = [s for s in code.splitlines() if not any(same(s, p) for p in told.splitlines())]
            assert not missing, f"the page shows {missing}, and this was printed:\n{told}"
