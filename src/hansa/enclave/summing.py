"""The sums of one round inside the enclave: an opening, its two halves, and what comes from under the masks.

What the enclave sees here are sums of a cohort's updates. It takes the halves of the one opening that a quorum of
members named for the round; key centre and server prove that theirs are right.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from hansa import encoding, errors
from hansa.crypto import double_trapdoor as dt
from hansa.crypto import kahe, sealing
from hansa.enclave import messages as msg
from hansa.enclave.bulk import Bulk
from hansa.enclave.messages import Code, Refusal
from hansa.enclave.opening import Reader
from hansa.protocol import secagg, tee
from hansa.protocol.model import parameters as length_of
from hansa.protocol.secagg import Opening
from hansa.protocol.tee import Manifest, Summed
from hansa.records import MAX_MEMBERS, Terms
from hansa.schemes import secagg_blobs as blobs
from hansa.schemes import sums
from hansa.schemes.sums import Answers, Plaintexts, Total


@dataclass(slots=True)
class Summing:
    """What is there of the sums: answers by side, what they give together, each cohort's sum once it is unmasked."""

    terms: Terms
    summed: Summed
    opening: Opening
    parameters: dt.Parameters
    answers: dict[dt.Side, Answers] = field(default_factory=dict)
    numbers: Plaintexts | None = None
    totals: dict[int, Total | None] = field(default_factory=dict)
    findings: dict[int, str] = field(default_factory=dict)


def begin(terms: Terms, manifest: Manifest, message: msg.Opening) -> Summing:
    """The opening of a manifest. Raises `Refusal` for another one, or other parameters."""
    summed, options = manifest.summed, secagg.secagg_of(terms)
    assert summed is not None
    if (encoding.digest(message.opening), encoding.digest(message.setup)) != (summed.opening, summed.setup):
        raise Refusal(Code.DIGEST)
    try:
        opening = secagg.decode_opening(message.opening)
        _check_concerned(terms, manifest, opening)
        setup = blobs.read_setup(message.setup, manifest.federation, options.modulus, sums.mode(options))
    except (errors.Untrusted, ValueError) as e:
        raise Refusal(Code.MANIFEST) from e
    return Summing(terms, summed, opening, setup.parameters)


def _check_concerned(terms: Terms, manifest: Manifest, opening: Opening) -> None:
    """That an opening is of the manifest's round, model and members, in cohorts that hide one of them."""
    members = [id for group in opening.cohorts for id in group.members]
    entries = [entry.member for entry in manifest.entries]
    facts = opening.federation, opening.round, opening.base, sorted(members)
    least = min(len(group.members) for group in opening.cohorts) if opening.cohorts else 0
    if (
        facts != (manifest.federation, manifest.round, manifest.base, entries)
        or least < terms.training.min_members
    ):
        raise errors.Untrusted("the opening is about another round, model or set")


def take_half(held: Summing, reader: Reader, said: int, bulk: Bulk) -> None:
    """Take one side's half, sealed to this enclave. Raises `Refusal`."""
    terms, opening = held.terms, held.opening
    limit = half_limit(terms)
    blob = bulk.read()
    try:
        side = dt.Side(said)
        found = blobs.read_half(blob, opening.federation, side, limit=limit)
        name = secagg.name_of(opening)
        if (found.round, found.opening) != (opening.round, name):
            raise errors.Untrusted("it answers another opening")
        context = blobs.sealed_context(opening.federation, opening.round, side, name)
        key = sealing.open_grant(found.grant, tee.reader_id(reader.host), reader.private_key, context)
        data = sealing.open_sealed(found.sealed, key, context, limit=limit)
        held.answers[side] = sums.read_answers(held.parameters, opening, side, data, blob, limit=limit)
    except (errors.Untrusted, ValueError) as e:
        raise Refusal(Code.HALF) from e
    held.numbers = None


def half_limit(terms: Terms) -> int:
    """Bytes that no half reaches."""
    return sums.half_limit(secagg.secagg_of(terms), length_of(terms.layout), MAX_MEMBERS)


def masked_limit(terms: Terms) -> int:
    """Bytes that no sum of masked updates reaches: the widest wire takes fewer."""
    return 8 * length_of(terms.layout) + (1 << 16)


def unmask(held: Summing, cohort: int, bulk: Bulk) -> None:
    """Take a cohort's masked sum, once both halves are there. A spoiled one is its members' doing."""
    wire = bulk.read()
    if len(held.answers) < len(dt.Side) or cohort >= len(held.opening.cohorts):
        raise Refusal(Code.ORDER)
    named = held.opening.cohorts[cohort]
    if (encoding.digest(wire) if wire else blobs.NONE) != named.masked:
        raise Refusal(Code.DIGEST)
    numbers = _numbers(held)
    try:
        held.totals[cohort] = sums.total(
            secagg.secagg_of(held.terms),
            held.parameters,
            numbers[cohort],
            wire,
            seed=held.summed.seed,
            members=held.summed.members,
            count=len(named.members),
            length=length_of(held.terms.layout),
            # No code that is compiled while it runs: the measurement would not cover it.
            kernel=kahe.numpy_kernel(),
        )
    except errors.Untrusted as e:
        held.totals[cohort] = None
        held.findings[cohort] = f"the sum of cohort {cohort} is spoiled: {e}"


def _numbers(held: Summing) -> Plaintexts:
    if held.numbers is None:
        held.numbers = sums.plaintexts(held.parameters, held.answers)
    return held.numbers


def package(held: Summing) -> bytes:
    """What the readers of the round get. Raises `Refusal` as long as a cohort's sum is missing."""
    count = len(held.opening.cohorts)
    if held.totals.keys() != set(range(count)):
        raise Refusal(Code.INCOMPLETE)
    secret = sums.secret(held.opening, _numbers(held))
    findings = [held.findings[k] for k in sorted(held.findings)]
    return sums.encode_package(secret, (held.totals[k] for k in range(count)), findings)
