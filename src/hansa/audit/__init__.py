"""The audit of a federation: replay, decide again, open again, recompute. See `run.audit`, `shared.audit_shared`."""

from hansa.audit.anchors import Anchors, anchors_of, read_anchors, write_anchors
from hansa.audit.report import Check, Report, exit_code
from hansa.audit.run import audit

__all__ = [
    "Anchors",
    "Check",
    "Report",
    "anchors_of",
    "audit",
    "exit_code",
    "read_anchors",
    "write_anchors",
]
