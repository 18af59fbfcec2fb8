"""Which caches of layers in a registry a build uses: as its options say, else the user's settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from orchestrator.project.user_settings import RegistryCacheSettings, read_settings
from orchestrator.user_paths import settings_path

NONE: Final = "none"
"""What an option says for none at all, whatever the settings have."""


@dataclass(frozen=True, kw_only=True)
class RegistryCaches:
    """Images or repositories that layers are taken from and brought to ("" = nowhere); `{name}` in them is the
    project's."""

    sources: tuple[str, ...] = ()
    target: str = ""

    def of(self, name: str) -> RegistryCaches:
        """Those of one project."""
        lower = name.lower()  # as references are
        sources = tuple(source.replace("{name}", lower) for source in self.sources)
        return RegistryCaches(sources=sources, target=self.target.replace("{name}", lower))


def chosen_registry_caches(sources: tuple[str, ...], target: str | None, *, offline: bool) -> RegistryCaches:
    """What the options say, each by itself; where they say nothing, the user's settings, unless no network may be
    used. UsageError for settings that are wrong."""
    path = settings_path()
    settings = read_settings(path).registry_cache if path.is_file() and not offline else RegistryCacheSettings()
    sources = sources or settings.sources
    target = target if target is not None else settings.to or ""
    return RegistryCaches(
        sources=() if sources == (NONE,) else sources,
        target="" if target == NONE else target,
    )
