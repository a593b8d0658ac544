"""A member's hash onion: the layers that it reveals to the beacon, one a round."""

from __future__ import annotations

from hansa import errors
from hansa.protocol.election import hash_forward
from hansa.protocol.state import Member

LENGTH = 1024
"""Rounds that one onion lasts; joining again registers a new one."""


class Onion:
    """Layers seed = x_0, x_1 = H(x_0), ...; the head x_LENGTH is registered on the chain."""

    def __init__(self, seed: bytes, length: int = LENGTH) -> None:
        layers = [seed]
        for _ in range(length):
            layers.append(hash_forward(layers[-1], 1))
        self._layers = layers
        self._depth = {layer: k for k, layer in enumerate(layers)}

    def __repr__(self) -> str:
        return "Onion()"

    @property
    def head(self) -> bytes:
        """What the chain is told at joining."""
        return self._layers[-1]

    def knows(self, head: bytes) -> bool:
        """Whether a head on the chain is one of its layers."""
        return head in self._depth

    def layer(self, member: Member, round: int) -> bytes:
        """The layer for a round, below the one that the chain knows.

        Raises `Misconfigured` when the chain knows another onion, or this one is used up.
        """
        known = self._depth.get(member.onion)
        if known is None:
            raise errors.Misconfigured(
                "the chain knows another hash onion than this node's key file",
                hint="Join again to register this one.",
            )
        wanted = known - (round - member.onion_round)
        if wanted < 0:
            raise errors.Misconfigured("the hash onion is used up", hint="Join again to register a new one.")
        return self._layers[wanted]
