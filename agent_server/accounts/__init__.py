"""Who may call and how much: keys, limits, prices, usage, the store, and the response cache.

Nothing is imported here, so that a server without a store never loads a database library.
"""
