"""Renew constraints.txt: the newest versions that pyproject.toml allows, of all that is tested.

    pip install uv && python .ci/renew_constraints.py

uv resolves for all Pythons from the oldest on at once and marks which version is for which. torch
stays at the version below until that is raised by hand, since a new one is the largest change.
"""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
TORCH = "torch==2.13.0"
OLDEST_PYTHON = "3.11"
EXTRAS = ("dev", "test", "docs")

HEADER = """\
# Every package that vidground is tested with, for `pip install -c constraints.txt`. Tested on
# Linux; versions for other systems were resolved but not tried. Written by
#     pip install uv && python .ci/renew_constraints.py
# Change pyproject.toml for other bounds and that script for another torch. The extra `eval` and
# onnxruntime-gpu, which the tests do not use, are not locked.
"""


def resolve() -> str:
    """Return the resolved versions of the package with all that is tested, one a line."""
    command = ["uv", "pip", "compile", "pyproject.toml"]
    for extra in EXTRAS:
        command += ["--extra", extra]
    command += ["--universal", "--python-version", OLDEST_PYTHON, "--upgrade", "--constraint", "-"]
    command += ["--no-annotate", "--no-header", "--quiet"]
    result = subprocess.run(
        command, cwd=ROOT, input=f"{TORCH}\n", text=True, stdout=subprocess.PIPE, check=False
    )
    if result.returncode:
        sys.exit("uv could not resolve; constraints.txt is as it was")
    return result.stdout


def main() -> None:
    """Write constraints.txt."""
    (ROOT / "constraints.txt").write_text(HEADER + resolve(), encoding="utf-8")


if __name__ == "__main__":
    main()
