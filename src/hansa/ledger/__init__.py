"""Ledgers: the federation's contract on an EVM chain, embedded in the process or anywhere."""
