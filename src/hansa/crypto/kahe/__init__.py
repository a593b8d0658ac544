"""A one-time mask whose keys add up: the sum of masks opens with the sum of secrets, and not before.

For member i and polynomial b of its values, in the ring Z_p[X] / (X**2048 + 1):

    y = NTT(Delta * x + e) + a_b * NTT(s_i)

`s_i` and `e` are small and secret, `a_b` is public and the same for all. Sums of y are masks of sums of x
under sums of s (key-additive homomorphic encryption, KAHE; as in Stevens et al., "Efficient Differentially
Private Secure Aggregation for Federated Learning via Hardness of Learning with Errors", USENIX Security 2022,
and Bell-Clark et al., "Willow: Secure Aggregation with One-Shot Clients", CRYPTO 2025). Only the 2048
coefficients of s need a costlier encryption.

Security: y is an RLWE sample. By the table of the Homomorphic Encryption Standard (2018) degree 2048 gives
128 bits for log2 p <= 54; here it is at most 48, with secret and noise of standard deviation 4
against the table's 3.2. That is the claim for masks that are never opened. Opening a sum shows the sum of the
secrets and the sum of the noises exactly: an RLWE problem with hints, whose hardness for centred binomials is
heuristic. The cohort's minimum and one opening a round keep that to one hint.

What the caller must see to: a **secret is for one mask**, also when an upload is tried again; the public key
is a hash of federation, round, attempt and previous beacon, so that nobody chooses `a_b`; the noise's entropy
is fresh. Masks are not authenticated: an altered one is noticed when the sum is opened, not before.
"""

from hansa.crypto.kahe.kernel import Kernel, default_kernel, numpy_kernel
from hansa.crypto.kahe.mask import mask, mask_chunks
from hansa.crypto.kahe.parameters import (
    DEGREE,
    GROUP,
    SPREAD,
    Parameters,
    noise_limit,
    parameters,
    wire_bytes,
)
from hansa.crypto.kahe.stream import draw_secret
from hansa.crypto.kahe.unmask import unmask, unmask_chunks
from hansa.crypto.kahe.wires import Accumulator, check_wire, sum_chunks

__all__ = [
    "DEGREE",
    "GROUP",
    "SPREAD",
    "Accumulator",
    "Kernel",
    "Parameters",
    "check_wire",
    "default_kernel",
    "draw_secret",
    "mask",
    "mask_chunks",
    "noise_limit",
    "numpy_kernel",
    "parameters",
    "sum_chunks",
    "unmask",
    "unmask_chunks",
    "wire_bytes",
]
