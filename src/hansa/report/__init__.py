"""The report of a run: facts gathered from a folder or a chain, and one page that shows them."""
