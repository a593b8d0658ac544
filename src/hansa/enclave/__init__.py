"""The program that runs in an enclave, whole: what is measured and trusted, with what it imports.

It speaks with its host alone, over standard input and output: `messages` says what, `serving` reads and answers,
`program` decides. `oblivious` aggregates without touching memory in a way that depends on the data.
"""
