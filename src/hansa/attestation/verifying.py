"""The verifier: one way from a quote to a record, for hardware and simulation alike; only the root differs.

Signatures, chains, revocation and the processor's state are judged by `dcap-qvl`, an implementation of Intel's
verification in Rust; its own verdict accepts processors that are out of date, so that only its findings are used
here. All else is this module: canonical form, who may sign collateral, dates, and the policy. Nothing is read from
a network or a clock: the caller brings the collateral and the time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache
from hmac import compare_digest
from typing import Any

from hansa import encoding, errors
from hansa.attestation import collateral as collaterals
from hansa.attestation import quotes, signatures
from hansa.attestation.collateral import Collateral
from hansa.attestation.library import library, version
from hansa.attestation.policy import DAY, Policy
from hansa.attestation.quotes import Measurement, Quote, SgxMeasurement
from hansa.attestation.records import Record
from hansa.protocol.statements import Statement, report_data
from hansa.records import Evidence


@dataclass(frozen=True, slots=True)
class Facts:
    """What signatures prove about a quote under a root.

    `status` and `advisories`: the maker's word on the processor. `evaluation`: number of its evaluation. `model`:
    FMSPC (6 bytes). `platform`: PPID of the processor (16 bytes). `expires`: when the first thing that was relied
    on ends, Unix seconds. `verifier`: name and version of the library.
    """

    tee: str
    measurement: Measurement
    report_data: bytes
    status: str
    advisories: tuple[str, ...]
    evaluation: int
    model: bytes
    platform: bytes
    expires: int
    verifier: str


@dataclass(frozen=True, slots=True)
class Examination:
    """A quote under a policy at one moment: what is proven (None where a signature or a date fails), what is
    held against it. It is accepted if nothing is."""

    quote: Quote
    collateral: Collateral
    facts: Facts | None
    refusals: tuple[errors.Untrusted, ...]


def verify(evidence: Evidence, policy: Policy, now: int, statement: Statement, nonce: bytes) -> Record:
    """Accept a quote that a statement and a nonce are bound in, under a policy at `now`; gives its record.

    Pure. The caller draws the nonce, and uses it for one quote. Raises `Untrusted`, with the digest of quote or
    collateral, for the first thing that is wrong; `Misconfigured` when the library is not installed.
    """
    examined = examine(evidence, policy, now)
    for refusal in examined.refusals:
        raise refusal
    quote, facts = examined.quote, examined.facts
    if facts is None:
        raise errors.Untrusted("the quote was not verified", digest=encoding.digest(evidence.quote))
    if not compare_digest(quote.report_data, report_data(statement, nonce)):
        raise errors.Untrusted(
            "the quote binds another statement or another nonce: other keys, another federation, or an old quote",
            hint="Its enclave has to quote these keys with the nonce of now.",
            digest=encoding.digest(evidence.quote),
        )
    return Record(
        mode=policy.mode,
        tee=facts.tee,
        root=encoding.digest(policy.root),
        measurement=facts.measurement,
        signed=encoding.digest(quote.signed),
        attestation_key=encoding.digest(quote.attestation_key),
        quote=encoding.digest(evidence.quote),
        collateral=encoding.digest(evidence.collateral),
        statement=statement.digest,
        policy=policy.digest,
        nonce=nonce,
        status=facts.status,
        advisories=facts.advisories,
        evaluation=facts.evaluation,
        model=facts.model,
        platform=encoding.digest(facts.platform),
        issued=examined.collateral.issued,
        expires=facts.expires,
        verified=now,
        verifier=facts.verifier,
    )


def reverify(record: Record, evidence: Evidence, policy: Policy, statement: Statement) -> None:
    """Verify archived evidence again, at the recorded time; the same record must come out.

    Another version of the library may say it. Raises `Untrusted`, naming what differs, or why the evidence fails.
    """
    again = verify(evidence, policy, record.verified, statement, record.nonce)
    names = [f.name for f in fields(Record) if f.name != "verifier"]
    differing = [name for name in names if getattr(again, name) != getattr(record, name)]
    if differing:
        raise errors.Untrusted(
            f"the record does not follow from its evidence: {', '.join(differing)}",
            hint="Either the record or what was archived with it is not what was verified then.",
            digest=record.digest,
        )


def examine(evidence: Evidence, policy: Policy, now: int) -> Examination:
    """Everything about a quote but what its report data binds. Pure.

    A quote that cannot be read, or is not in canonical form, raises `Untrusted`, as does such collateral; what is
    wrong with evidence that can be read stands in the result.
    """
    quote, collateral = quotes.read(evidence.quote), _collateral(evidence.collateral)
    try:
        facts = _proven(evidence, quote, collateral, policy.root, now)
    except errors.Untrusted as e:
        e.digest = e.digest or encoding.digest(evidence.quote)
        return Examination(quote, collateral, None, (e,))
    refusals = tuple(_objections(facts, collateral, policy, now))
    for refusal in refusals:
        refusal.digest = encoding.digest(evidence.quote)
    return Examination(quote, collateral, facts, refusals)


# One collateral serves all processors of a model: it is taken apart once.
@lru_cache(maxsize=64)
def _collateral(data: bytes) -> Collateral:
    return collaterals.read(data)


@lru_cache(maxsize=64)
def _for_library(data: bytes) -> Any:
    collateral = _collateral(data)
    return library().QuoteCollateralV3(
        collateral.crl_chain,
        collateral.root_crl,
        collateral.pck_crl,
        collateral.tcb_signer.chain,
        collateral.tcb_info,
        collateral.tcb_signature,
        collateral.qe_signer.chain,
        collateral.qe_identity,
        collateral.qe_signature,
    )


def _proven(evidence: Evidence, quote: Quote, collateral: Collateral, root: bytes, now: int) -> Facts:
    if signatures.canonical_chain(quote.chain)[1] != root:
        raise errors.Untrusted(
            "the quote's certificates end in another root than the policy's",
            hint="A simulated quote proves nothing where hardware is asked for, and the other way round.",
        )
    if quote.debug:
        raise errors.Untrusted(
            "the quote is of an enclave in debug mode, whose memory its host can read",
            hint="Its operator has to build and sign it without debugging.",
        )
    collaterals.check_signers(collateral, root)
    _check_dates(collateral, now)
    claims = _claims(evidence, root, now)
    tcb, platform = claims["tcb"], claims["platform"]
    # The verdict leaves out what applies to a TDX module that was updated under a running domain.
    current = (platform["current_tcb_level"] or {}).get("advisoryIDs", [])
    return Facts(
        tee=quote.tee,
        measurement=quote.measurement,
        report_data=quote.report_data,
        status=tcb["status"],
        advisories=tuple(sorted({*tcb["advisory_ids"], *current})),
        evaluation=tcb["eval_data_number"],
        model=bytes(platform["pck"]["fmspc"]),
        platform=bytes(platform["pck"]["ppid"]),
        expires=claims["earliest_expiration_date"],
        verifier=version(),
    )


def _check_dates(collateral: Collateral, now: int) -> None:
    if collateral.newest > now:
        raise errors.Untrusted(
            f"the collateral was signed {_span(collateral.newest - now)} in the future",
            hint="Check the time at which the quote is judged; else whoever sent the collateral is at fault.",
        )
    if collateral.expires < now:
        raise errors.Untrusted(
            f"the collateral expired {_span(now - collateral.expires)} ago",
            hint="Whoever attests has to fetch it again from the processor maker's service.",
        )


@lru_cache(maxsize=16)
def _judge(root: bytes) -> Any:
    return library().QuoteVerifier(root)


def _claims(evidence: Evidence, root: bytes, now: int) -> dict[str, Any]:
    """What the library finds, without its policy. Raises `Untrusted` when it finds a signature wrong."""
    parts = _for_library(evidence.collateral)
    try:
        everything = library().QuotePolicy.claims_only(now)
        claims = _judge(root).verify_with_policy(evidence.quote, parts, now, everything)
    except (ValueError, OverflowError) as e:
        raise _refuted(evidence.quote, parts, root, now) from e
    found: dict[str, Any] = json.loads(claims.to_json())
    return found


def _refuted(quote: bytes, parts: Any, root: bytes, now: int) -> errors.Untrusted:
    """Why the library refuses; only its simpler call says so in full."""
    try:
        library().verify_with_root_ca(quote, parts, root, now)
        reason = "its findings cannot be put together"
    except (ValueError, OverflowError) as e:
        words = " ".join(str(e).split("Stack backtrace")[0].replace("Caused by:", "").split())
        reason = "".join(letter for letter in words if letter.isprintable())[:300]
    if "CertRevoked" in reason or "Revoked" in reason:
        return errors.Untrusted(
            "the processor's maker has revoked the processor's key, or a certificate above it",
            hint="This machine proves nothing any more; its operator has to use another.",
        )
    return errors.Untrusted(
        f"the quote does not verify: {reason.removeprefix('Verification failed: ')}",
        hint="The quote or its collateral was changed, or the two do not belong together; ask for them again.",
    )


def _objections(facts: Facts, collateral: Collateral, policy: Policy, now: int) -> Iterator[errors.Untrusted]:
    """What the policy does not allow of that which is proven."""
    if now - collateral.issued > policy.max_age:
        yield errors.Untrusted(
            f"the collateral is {_span(now - collateral.issued)} old, {_span(policy.max_age)} are allowed",
            hint="Whoever attests has to fetch it again from the processor maker's service.",
        )
    if facts.status not in policy.statuses:
        yield errors.Untrusted(
            f"the processor's state is {facts.status}; {', '.join(policy.statuses) or 'nothing'} is allowed",
            hint="Its operator has to update or configure it; or the policy has to allow this state.",
        )
    if unlisted := sorted(set(facts.advisories) - set(policy.advisories)):
        yield errors.Untrusted(
            f"known weaknesses of the processor are not allowed: {', '.join(unlisted)}",
            hint="Its operator has to update it; or the policy has to list these advisories after reading them.",
        )
    if facts.evaluation < policy.min_evaluation:
        yield errors.Untrusted(
            f"the collateral is of TCB evaluation {facts.evaluation}, at least {policy.min_evaluation} is asked for",
            hint="Whoever attests has to fetch it again, and to ask for the newest evaluation.",
        )
    if policy.platforms and facts.platform not in policy.platforms and facts.model not in policy.platforms:
        yield errors.Untrusted(
            f"processor {facts.platform.hex()} of model {facts.model.hex()} is not on the policy's list",
            hint="Its operator is at fault, or the list has to name it.",
        )
    if not _is_pinned(facts.measurement, policy):
        yield errors.Untrusted(
            f"the policy does not name what runs there: {_named(facts.measurement)}",
            hint="Another program was started than the one agreed on; or pin this one, after building it yourself.",
        )


def _span(seconds: int) -> str:
    return f"{seconds / DAY:.1f} days" if seconds > DAY else f"{seconds} s"


def _is_pinned(measured: Measurement, policy: Policy) -> bool:
    if not isinstance(measured, SgxMeasurement):
        return measured in policy.domains
    return measured.mrenclave in policy.enclaves or any(
        (product.mrsigner, product.product) == (measured.mrsigner, measured.product)
        and measured.svn >= product.min_svn
        for product in policy.products
    )


def _named(measured: Measurement) -> str:
    if isinstance(measured, SgxMeasurement):
        signer = f"signer {measured.mrsigner.hex()}, product {measured.product}, version {measured.svn}"
        return f"MRENCLAVE {measured.mrenclave.hex()} ({signer})"
    return f"MRTD {measured.mrtd.hex()} with registers {', '.join(r.hex()[:16] for r in measured.rtmrs)}"
