"""The package `dcap-qvl`: judges signatures, chains and states of processors. It is in the extra `tee`."""

from __future__ import annotations

from functools import cache
from typing import Any

from hansa import errors


@cache
def library() -> Any:
    """The package. Raises `Misconfigured` when it is not installed."""
    try:
        import dcap_qvl
    except ImportError as e:
        raise errors.Misconfigured(
            "quotes cannot be verified: the package dcap-qvl is not installed",
            hint="Install the extra: pip install 'hansa[tee]'.",
        ) from e
    return dcap_qvl


@cache
def version() -> str:
    """Its name and version, as records have them."""
    return f"dcap-qvl {library().__version__}"
