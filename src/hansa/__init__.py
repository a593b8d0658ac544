"""Hansa: organisations that do not trust each other train one model together."""

import os

# Keccak is the hottest function of the ledger; this backend is compiled. It must be named before the first hash.
os.environ.setdefault("ETH_HASH_BACKEND", "pysha3")

from hansa.app import App, Site

__all__ = ["App", "Site"]
