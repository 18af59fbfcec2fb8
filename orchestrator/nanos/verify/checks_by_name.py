"""What glibc loads by name when a function is called: no DT_NEEDED says so, and the program may abort without it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from orchestrator.errors import Finding, note, warning
from orchestrator.nanos.verify.subject import Subject

C_LIBRARY: Final = "libc.so.6"
UNWINDER: Final = "libgcc_s.so.1"
# Who asks for the unwinder was measured in glibc 2.36 (callers of __libc_unwind_link_get); thrd_exit does as
# pthread_exit.
_END_THREADS: Final = ("pthread_cancel", "pthread_exit", "thrd_exit")
_BACKTRACE: Final = "backtrace"
_CONVERT: Final = "iconv_open"
_FUNCTIONS: Final = frozenset({*_END_THREADS, _BACKTRACE, _CONVERT})
_SHOWN: Final = 3


def check_by_name(subject: Subject) -> Iterator[Finding]:
    """The unwinder, where something packed can end a thread; a note on character sets."""
    libc = subject.loader.loaded(C_LIBRARY)
    if libc is None or subject.loader.interpreter is None:
        return
    importers = subject.importers(_FUNCTIONS)
    unwinder = subject.loader.open_from(libc, UNWINDER)
    ending = {name: importers[name] for name in _END_THREADS if name in importers}
    if unwinder.path is None and ending:
        who = _told(path for paths in ending.values() for path in paths)
        yield warning(
            "unwinder-missing",
            f"{who} can call {', '.join(ending)}, for which glibc loads {UNWINDER}, which is not packed where the"
            " guest's loader looks: the program would abort there",
            f"set stage.libraries: auto, or add {UNWINDER} to stage.extra; the package that has it (Debian: libgcc-s1)"
            " must be in the base or in build.packages",
        )
    elif unwinder.path is None and _BACKTRACE in importers:
        yield note(
            "backtrace-empty", f"{_told(importers[_BACKTRACE])} can call backtrace, which is empty without {UNWINDER}"
        )
    if _CONVERT in importers and not _has_character_sets(subject):
        yield note(
            "gconv-missing",
            f"{_told(importers[_CONVERT])} can convert character sets (iconv): without glibc's gconv modules,"
            " only between UTF-8, UTF-16, UTF-32 and ASCII",
        )


def _has_character_sets(subject: Subject) -> bool:
    names = ("/gconv-modules", "/gconv-modules.cache")
    return any(path.endswith(names) for path, _ in subject.files)


def _told(paths: Iterator[str] | tuple[str, ...]) -> str:
    every = sorted(set(paths))
    more = f" and {len(every) - _SHOWN} more" if len(every) > _SHOWN else ""
    return ", ".join(every[:_SHOWN]) + more
