"""The steps by which the schema of the store changes, in the order of their numbers.

A step adds; it never drops a column or a table that the version before it still reads, so that a
server of that version goes on to work on the new schema while the others are replaced.
"""

# The newest step. A test holds it to be what Alembic finds in `versions/`.
HEAD = "0002"
