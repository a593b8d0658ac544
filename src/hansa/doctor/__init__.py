"""Preflight for a node's machine: its chain, its store, itself. Looks, judges, changes nothing that stays."""

from hansa.doctor.chain import examine_chain, secrets_of
from hansa.doctor.enclaves import examine_enclaves
from hansa.doctor.extras import examine_extras
from hansa.doctor.findings import Finding, exit_code, worst
from hansa.doctor.machine import examine_machine
from hansa.doctor.store import examine_store

__all__ = [
    "Finding",
    "examine_chain",
    "examine_enclaves",
    "examine_extras",
    "examine_machine",
    "examine_store",
    "exit_code",
    "secrets_of",
    "worst",
]
