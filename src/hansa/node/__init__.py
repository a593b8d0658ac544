"""A node: the loop that performs what the plan says, and the journal that makes each step happen once."""
