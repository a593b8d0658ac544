"""Handwritten digits in numpy."""
