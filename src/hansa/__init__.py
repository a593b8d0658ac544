"""Hansa: organisations that do not trust each other train one model together."""

import os

# Keccak is the ledger's hottest function; this backend is compiled. To be named before the first hash.
os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from hansa.app import App, Site

__all__ = ["App", "Site"]
