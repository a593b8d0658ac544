"""Signers, one file each: a key file on this machine, a signing service elsewhere."""
