"""The library that draws the charts: Vega, with Vega-Lite and Vega-Embed, as vl-convert brings them (extra `[report]`).

It needs no network: the package holds the libraries' modules, and bundles them in some seconds; the result is kept in
the user's cache.
"""

from __future__ import annotations

import importlib
import re
from contextlib import suppress
from typing import Any, Final

from orchestrator.documents import DocumentError, read_bounded
from orchestrator.files import write_text
from orchestrator.user_paths import cache_root

INSTALL: Final = "pip install 'gevulot-orchestrator[report]'"
FOLDER: Final = "report"
_SNIPPET: Final = "window.vegaEmbed = vegaEmbed;"
_MOST: Final = 16 << 20
# BSD-3-Clause, whose second condition asks for this beside every copy.
LICENCE: Final = """\
Vega, Vega-Lite and Vega-Embed. Copyright (c) 2015-2023, University of Washington Interactive Data Lab.
All rights reserved.

Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:
1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
disclaimer in the documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote products
derived from this software without specific prior written permission.

THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.
"""


def chart_library() -> str | None:
    """The library as text of a script that may stand in HTML; None where the package is not installed."""
    try:
        package = importlib.import_module("vl_convert")
    except ImportError:
        return None
    path = cache_root() / FOLDER / f"vega-{package.__version__}.js"
    with suppress(OSError, DocumentError):
        return read_bounded(path, _MOST, links=False).decode()
    text = _bundle(package)
    with suppress(OSError):  # without it, the next page takes as long
        write_text(path, text)
    return text


def _bundle(package: Any) -> str:
    text: str = package.javascript_bundle(_SNIPPET)
    # What would end a script, or begin a comment that hides its end; in JavaScript the same text with a backslash. A
    # browser reads CR as a line's end, and hashes what it read.
    text = re.sub("</(?=script)", r"<\\/", text, flags=re.IGNORECASE).replace("<!--", r"\x3c!--")
    text = re.sub("\r\n?", "\n", text)
    return f"/*! {LICENCE}*/\n{text}\n"
