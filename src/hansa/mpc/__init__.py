"""Scheme `mpc`: one network is trained on secret shares by computing parties, linked by SPU (source system D)."""
