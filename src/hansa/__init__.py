"""Hansa: organisations that do not trust each other train one model together."""
