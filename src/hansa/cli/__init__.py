"""The command line: thin commands over the packages below, and how their results look."""
