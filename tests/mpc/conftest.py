"""Scheme mpc in its own environment (`make test-mpc`): the main one has neither SPU nor numpy 1."""

from __future__ import annotations

import importlib.util

collect_ignore_glob = [] if importlib.util.find_spec("spu") else ["test_*.py"]
