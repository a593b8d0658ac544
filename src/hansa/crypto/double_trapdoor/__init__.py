"""Double-trapdoor encryption: members encrypt under keys of their own, two halves together open sums.

Needs gmpy2, from the extra `secagg`.

    setup       primes, parameters, the two halves of the strong trapdoor
    parameters  public values and their check
    keys        members' keys, proof of possession
    ciphertexts encryption, addition, opening with the weak trapdoor
    knowledge   one proof of knowledge for a list of ciphertexts
    halves      opening with the two halves, with proofs
    wrapping    content keys under a member's key
    packing     many signed numbers in one plaintext
    wire        bytes
"""

from hansa.crypto.double_trapdoor.ciphertexts import (
    Ciphertext,
    add_across_keys,
    add_under_one_key,
    draw_exponent,
    encrypt,
    weak_decrypt,
)
from hansa.crypto.double_trapdoor.halves import Answer, check_half, combine, raise_to_half
from hansa.crypto.double_trapdoor.keys import (
    Possession,
    WeakKey,
    check_possession,
    derive_key,
    prove_possession,
)
from hansa.crypto.double_trapdoor.knowledge import Knowledge, check_knowledge, encrypt_and_prove
from hansa.crypto.double_trapdoor.packing import Packing, choose_packing, pack, unpack_sum
from hansa.crypto.double_trapdoor.parameters import (
    SIZES,
    Mode,
    Parameters,
    check_parameters,
    exponent_bits,
)
from hansa.crypto.double_trapdoor.setup import Half, SetUp, Side, set_up, split, strong_decrypt
from hansa.crypto.double_trapdoor.wire import (
    read_answer,
    read_ciphertexts,
    read_half,
    read_knowledge,
    read_parameters,
    read_possession,
    read_public,
    write_answer,
    write_ciphertexts,
    write_half,
    write_knowledge,
    write_parameters,
    write_possession,
    write_public,
)
from hansa.crypto.double_trapdoor.wrapping import unwrap_key, wrap_key, wrapped_bytes

__all__ = [
    "SIZES",
    "Answer",
    "Ciphertext",
    "Half",
    "Knowledge",
    "Mode",
    "Packing",
    "Parameters",
    "Possession",
    "SetUp",
    "Side",
    "WeakKey",
    "add_across_keys",
    "add_under_one_key",
    "check_half",
    "check_knowledge",
    "check_parameters",
    "check_possession",
    "choose_packing",
    "combine",
    "derive_key",
    "draw_exponent",
    "encrypt",
    "encrypt_and_prove",
    "exponent_bits",
    "pack",
    "prove_possession",
    "raise_to_half",
    "read_answer",
    "read_ciphertexts",
    "read_half",
    "read_knowledge",
    "read_parameters",
    "read_possession",
    "read_public",
    "set_up",
    "split",
    "strong_decrypt",
    "unpack_sum",
    "unwrap_key",
    "weak_decrypt",
    "wrap_key",
    "wrapped_bytes",
    "write_answer",
    "write_ciphertexts",
    "write_half",
    "write_knowledge",
    "write_parameters",
    "write_possession",
    "write_public",
]
