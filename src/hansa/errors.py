"""Every error that Hansa raises on purpose.

    HansaError
    + Refused        the federation's rules say no; one subclass a contract revert code
    + Unavailable    a chain, store or peer does not answer now: try again later
      + Missing      the store answers, and does not have it
    + Untrusted      another party's bytes are wrong: keep the digest as evidence
    + Misconfigured  found before anything started: the user's files or flags are wrong
      + AppFailed    the user's app raised an error
    + NotAsked       the app has nothing for this member to do in this round

Whose fault it is stands in the type. `hint` says what to do about it.
"""

from __future__ import annotations

from typing import ClassVar


class HansaError(Exception):
    """Root of every deliberate error; `hint` is one sentence of advice."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message or type(self).__doc__ or type(self).__name__)
        self.hint = hint


class Unavailable(HansaError):
    """A chain, store or peer does not answer; the same call may succeed later."""


class Missing(Unavailable):
    """A store answers, and holds nothing under this name yet."""


class Untrusted(HansaError):
    """Bytes from another party are not what they claim to be."""

    def __init__(self, message: str = "", *, hint: str = "", digest: bytes = b"") -> None:
        super().__init__(message, hint=hint)
        self.digest = digest


class Misconfigured(HansaError):
    """The user's terms, configuration or command line cannot be used."""


class AppFailed(Misconfigured):
    """The app's own code raised an error while it trained or evaluated."""


class NotAsked(HansaError):
    """The app asks this member for nothing in this round; it is nobody's fault."""


class Refused(HansaError):
    """The federation's rules forbid this message; `code` is the contract's `Refused(code)`."""

    code: ClassVar[int] = 0


class BadSignature(Refused):
    """The signature is not the one of the member that the message names."""

    code = 1


class WrongRound(Refused):
    """The message belongs to another round."""

    code = 2


class WrongPhase(Refused):
    """The message is not possible in this phase."""

    code = 3


class DeadlinePassed(Refused):
    """The phase is over: its deadline has passed."""

    code = 4


class TooEarly(Refused):
    """The phase is not over yet: its deadline lies ahead and somebody is still awaited."""

    code = 5


class NotOwner(Refused):
    """Only the owner may do this."""

    code = 6


class NotInvited(Refused):
    """This address was not invited, or was excluded by vote."""

    code = 7


class NotMember(Refused):
    """This id is not on the roster."""

    code = 8


class Full(Refused):
    """The federation has no room for another member."""

    code = 9


class AlreadySent(Refused):
    """This member already sent its message of this kind for this slot."""

    code = 10


class StaleBase(Refused):
    """The update was trained on a model older than `max_staleness` allows."""

    code = 11


class FutureBase(Refused):
    """The update names a base model that does not exist yet."""

    code = 12


class NotCommitted(Refused):
    """This member has no commitment in this round, or did not reveal its beacon layer."""

    code = 13


class WrongPreimage(Refused):
    """The revealed value does not hash to the member's onion head."""

    code = 14


class NotVerifier(Refused):
    """This id does not verify in this round."""

    code = 15


class WrongBallot(Refused):
    """The opened ballot is not the one that was committed, or none was."""

    code = 16


class MalformedRanking(Refused):
    """The ranking is not a permutation of the evaluator's assigned list."""

    code = 17


class WrongPlace(Refused):
    """The evaluator does not stand at this place of the permutation."""

    code = 18


class WrongSelection(Refused):
    """Threshold and tie cut do not select exactly the K best."""

    code = 19


class NotLeader(Refused):
    """Another member leads this attempt."""

    code = 20


class WrongAttempt(Refused):
    """The message belongs to another attempt of this round."""

    code = 21


class WrongPrecommit(Refused):
    """The approval does not open the digest that this verifier fixed before the proposal."""

    code = 23


class UnorderedSigners(Refused):
    """Signers of a motion must come in ascending order of their ids."""

    code = 24


class TooFewSigners(Refused):
    """The motion is not carried: fewer than floor(2n/3)+1 members signed."""

    code = 25


class NotEquivocation(Refused):
    """The two messages do not contradict each other."""

    code = 27


class TooFewMembers(Refused):
    """The federation would fall below its minimum of active members."""

    code = 28


class BadTerms(Refused):
    """The parameters given to the contract contradict each other."""

    code = 29


class WrongRole(Refused):
    """The role that this address asks for is not one it may take."""

    code = 30


REFUSALS: dict[int, type[Refused]] = {c.code: c for c in Refused.__subclasses__()}
"""Contract revert code -> error class; the codes are the contract's only revert reasons."""
