"""Settings of the kit: environment variables ``TWOPM_…`` first, then ``twopm.toml``, then the defaults.

============  ========================================  ================================================
setting       values                                    meaning
============  ========================================  ================================================
``chain``     ``embedded``, ``anvil``, ``http(s)://…``  the chain that ``kit.chain.connect()`` goes to
``mode``      ``fast``, ``learn``, ``full``             how much a notebook does
``data_dir``  a folder                                  where the tables and ``index.json`` are read from
============  ========================================  ================================================

The file is looked for in the working directory only. A name that no setting has is an error in both places,
so that a typing mistake never passes for a setting.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from twopm_kit.errors import ConfigError

__all__ = ["Settings", "reload", "settings"]

_PREFIX = "TWOPM_"
_FILE = "twopm.toml"

Mode = Literal["fast", "learn", "full"]


class Settings(BaseSettings):
    """The settings in force; frozen.

    Attributes
    ----------
    chain : str
        Target of ``kit.chain.connect()``: ``"embedded"``, ``"anvil"`` or the URL of a JSON-RPC server.
        The text form of the settings shows the server's address only: keys hide in paths and queries.
    mode : {"fast", "learn", "full"}
        How much a notebook does: ``fast`` for tests, ``learn`` for a reader, ``full`` for a study.
    data_dir : Path or None
        Folder with ``index.json`` and the tables; None means the folder that came with the kit.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, extra="forbid", frozen=True, validate_default=False, env_ignore_empty=True
    )

    chain: str = "embedded"
    mode: Mode = "learn"
    data_dir: Path | None = None

    @field_validator("chain")
    @classmethod
    def _chain_target(cls, value: str) -> str:
        if value in {"embedded", "anvil"} or value.startswith(("http://", "https://")):
            return value
        raise ConfigError(
            f"setting 'chain' is {_without_key(value)!r}; expected 'embedded', 'anvil' or an http(s) URL",
            hint=_near(value, ("embedded", "anvil")) or "set it to embedded, anvil or http://host:port",
        )

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            yield name, _without_key(value) if name == "chain" else value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the places that settings come from, the strongest first."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, InitSettingsSource(settings_cls, _from_file(Path(_FILE)))


def _without_key(target: str) -> str:
    """Return a chain target without what may be a key: user, password, path and query of a URL."""
    if "://" not in target:
        return target
    scheme, _, rest = target.partition("://")
    host = re.split(r"[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    return f"{scheme}://{host}" if rest.rstrip("/") == host else f"{scheme}://{host}/…"


def _near(name: str, known: Iterable[str]) -> str:
    """Return a hint with the known name that looks most like ``name``, or an empty string."""
    match = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.5)
    return f"write {match[0]!r}" if match else ""


def _from_file(path: Path) -> dict[str, Any]:
    """Return the settings written in ``path``; nothing when there is no such file."""
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"{path} cannot be read as UTF-8 text: {error}", hint=f"make {path} readable, or delete it"
        ) from None
    try:
        values = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}", hint="correct that line") from None
    for name in values:
        if name not in Settings.model_fields:
            raise ConfigError(
                f"{path} sets {name!r}; known settings: {', '.join(Settings.model_fields)}",
                hint=_near(name, Settings.model_fields) or f"delete {name!r} from {path}",
            )
    return values


def _check_environment() -> None:
    """Refuse a ``TWOPM_…`` variable that is no setting."""
    known = [_PREFIX + name.upper() for name in Settings.model_fields]
    for name in sorted(os.environ):
        if name.upper().startswith(_PREFIX) and name.upper() not in known:
            match = difflib.get_close_matches(name.upper(), known, n=1, cutoff=0.5)
            raise ConfigError(
                f"the environment sets {name}; known variables: {', '.join(known)}",
                hint=f"write {match[0]}" if match else f"unset {name}",
            )


def _read() -> Settings:
    """Read the settings from the environment and the file, and check them."""
    _check_environment()
    try:
        return Settings()
    except ValidationError as error:
        problem = error.errors()[0]
        context = problem.get("ctx", {})
        if isinstance(context.get("error"), ConfigError):
            raise context["error"] from None
        name = str(problem["loc"][0])
        given = problem["input"]
        expected = context.get("expected", problem["msg"])
        near = _near(str(given), ("fast", "learn", "full")) if name == "mode" else ""
        raise ConfigError(
            f"setting {name!r} is {given!r}; expected {expected}",
            hint=near or f"correct {_PREFIX}{name.upper()} or the line in {_FILE}",
        ) from None


_cache: list[Settings] = []


def settings() -> Settings:
    """Return the settings in force; they are read once and kept.

    Raises
    ------
    ConfigError
        When a name is unknown or a value cannot be; the hint names the nearest right one.
    """
    if not _cache:
        _cache.append(_read())
    return _cache[0]


def reload() -> Settings:
    """Read the settings again, after the environment, the file or the working directory changed.

    Raises
    ------
    ConfigError
        As :func:`settings`; the settings that were in force before then stay.
    """
    fresh = _read()
    _cache[:] = [fresh]
    return fresh
