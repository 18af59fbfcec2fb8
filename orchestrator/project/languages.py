"""Programs that an interpreter runs: what their build starts from, and what it does where project.yaml doesn't say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.project.bases import Base, Bootstrap

Language = Literal["python", "node"]

PYTHON_STEP: Final = """\
# What the sources ask for, into the interpreter's own directory of packages
export PIP_BREAK_SYSTEM_PACKAGES=1 PIP_ROOT_USER_ACTION=ignore PIP_DISABLE_PIP_VERSION_CHECK=1
if [ -f requirements.txt ]; then
    python3 -m pip install --no-compile -r requirements.txt
fi
if [ -f setup.py ] || grep -qsE '^\\[(project|tool\\.poetry)\\]' pyproject.toml; then
    mkdir /tmp/package && cp -R . /tmp/package && cd /tmp/package
    if [ -f requirements.txt ]; then set -- --no-deps; fi
    python3 -m pip install --no-compile "$@" .
    rm -rf /tmp/package
fi
"""
NODE_STEP: Final = """\
# What the sources ask for, into node_modules
if [ -f package-lock.json ] || [ -f npm-shrinkwrap.json ]; then
    if command -v npm >/dev/null; then npm ci --omit=dev --no-audit --no-fund
    elif [ -f /orchestrator/install-locked.js ]; then node /orchestrator/install-locked.js
    else echo "npm is not in the base: add npm to build.packages" >&2 && exit 1
    fi
elif [ -f package.json ] && grep -q '"dependencies"' package.json; then
    if ! command -v npm >/dev/null; then
        echo "npm is not in the base: add a package-lock.json, or npm to build.packages" >&2
        exit 1
    fi
    npm install --omit=dev --no-audit --no-fund
fi
"""

STARTS: Final[Mapping[Language, tuple[str, ...]]] = {"python": ("__main__.py",), "node": ("package.json", "index.js")}
"""What a directory has that its interpreter can start."""


@dataclass(frozen=True, kw_only=True)
class LanguageDefaults:
    """The base and the build step of a language."""

    base: Base
    run: str


LANGUAGES: Final[Mapping[Language, LanguageDefaults]] = {
    "python": LanguageDefaults(
        base=Base(
            image="docker.io/library/python:3.11-bookworm",
            bootstrap=Bootstrap(packages=("python3", "python3-pip", "binutils", "ca-certificates")),
        ),
        run=PYTHON_STEP,
    ),
    "node": LanguageDefaults(
        base=Base(
            image="docker.io/library/node:22-bookworm",
            bootstrap=Bootstrap(packages=("nodejs", "binutils", "ca-certificates")),
        ),
        run=NODE_STEP,
    ),
}
