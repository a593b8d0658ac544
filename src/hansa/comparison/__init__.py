"""Published systems beside each other on one app, under attack, over many seeds: what `hansa compare` does."""
