"""Remote attestation of SGX enclaves and TDX trust domains: quotes, collateral, policy, record; who makes quotes.

See `verifying.verify`; who attests: `simulated.Simulated`, `hardware.Gramine`, `hardware.TrustDomain`; where their
collateral comes from: `service.from_service`.
"""

from hansa.attestation.policy import Policy, Product, intel_root
from hansa.attestation.quotes import Measurement, Quote, SgxMeasurement, TdxMeasurement, normalise
from hansa.attestation.records import Record, archive, archived, read_record
from hansa.attestation.verifying import Examination, Facts, examine, reverify, verify
from hansa.protocol.attested import NO_PROTECTION
from hansa.protocol.statements import NONCE_BYTES, Statement, read_statement, report_data

__all__ = [
    "NONCE_BYTES",
    "NO_PROTECTION",
    "Examination",
    "Facts",
    "Measurement",
    "Policy",
    "Product",
    "Quote",
    "Record",
    "SgxMeasurement",
    "Statement",
    "TdxMeasurement",
    "archive",
    "archived",
    "examine",
    "intel_root",
    "normalise",
    "read_record",
    "read_statement",
    "report_data",
    "reverify",
    "verify",
]
