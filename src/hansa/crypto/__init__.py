"""Cryptography: signatures, sealing, exact integers."""
