"""Files that people write: TOML against a table of keys. Strict: unknown keys and wrong types are refused.

Every message names the key as it stands in the file and, where there is one, the nearest right value.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from hansa import errors


class Table(BaseModel):
    """A table of a file; its fields are the keys."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


File = TypeVar("File", bound=Table)


def read_toml(path: Path, hint: str) -> dict[str, Any]:
    """What stands in a file. `hint`: advice where there is none. Raises `Misconfigured`."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise errors.Misconfigured(f"cannot read {path}: {e.strerror}", hint=hint) from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise errors.Misconfigured(f"{path} is not TOML: {e}", hint="See https://toml.io.") from e


def checked(
    table: type[File],
    written: Mapping[str, Any],
    path: Path,
    *,
    required: Mapping[str, str] | None = None,
    show: bool = True,
) -> File:
    """What was written, as the table reads it. `required`: key without a default -> why. Raises `Misconfigured`.

    Without `show` messages leave out what was written, which may be secret. Validators find the file's folder
    as the context "folder".
    """
    try:
        return table.model_validate(dict(written), context={"folder": path.parent})
    except ValidationError as e:
        problems = "; ".join(_explain(table, d, required or {}, show) for d in e.errors())
        raise errors.Misconfigured(f"{path.name}: {problems}", hint=f"Correct {path}.") from None


def not_one_of(value: str, allowed: Sequence[str]) -> str:
    """That a value is none of these, and which it may have meant."""
    near = difflib.get_close_matches(value, allowed, 1, cutoff=0.4)
    return f'"{value}" is not one of {", ".join(allowed)}' + (f'; did you mean "{near[0]}"?' if near else "")


def _explain(table: type[Table], detail: ErrorDetails, required: Mapping[str, str], show: bool) -> str:
    """One pydantic error in the words of the file."""
    location = detail["loc"]
    key = _key(table, location)
    if detail["type"] == "extra_forbidden":
        known = list(_inner(table, location[:-1]).model_fields)
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        advice = f'; did you mean "{near[0]}"?' if near else ": " + ", ".join(known)
        if not location[1:] and not isinstance(detail["input"], dict):
            return f"{location[0]}: unknown key{advice}"
        return f"{key}: unknown {'key' if location[1:] else 'section'}{advice}"
    if detail["type"] == "missing":
        return f"{key} is missing; " + required.get(key, "it has no default")
    if detail["type"] == "literal_error" and show:
        allowed = re.findall(r"'([^']*)'", detail["ctx"]["expected"])
        return f"{key}: " + not_one_of(str(detail["input"]), allowed)
    reason = detail["msg"].removeprefix("Value error, ").removeprefix("Input ")
    return f"{key}: {reason}" + (f", not {detail['input']!r}" if show else "")


def _key(table: type[Table], location: Sequence[str | int]) -> str:
    """`[section] key`, or the bare key of one that stands above all sections."""
    first, inner = str(location[0]), ".".join(str(part) for part in location[1:])
    field = table.model_fields.get(first)
    if field is not None and _table_of(field.annotation) is None:
        return first + (f".{inner}" if inner else "")
    return f"[{first}]" + (f" {inner}" if inner else "")


def _table_of(annotation: Any) -> type[Table] | None:
    kinds = (annotation, *getattr(annotation, "__args__", ()))
    return next((k for k in kinds if isinstance(k, type) and issubclass(k, Table)), None)


def _inner(table: type[Table], location: Sequence[str | int]) -> type[Table]:
    for part in location:
        table = _table_of(table.model_fields[str(part)].annotation) or table
    return table
