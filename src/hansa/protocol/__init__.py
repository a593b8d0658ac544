"""The protocol itself: pure functions, without input, output, clock or randomness."""
