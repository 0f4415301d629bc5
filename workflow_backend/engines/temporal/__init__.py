"""The engine on Temporal (extra `temporal`): `engine.TemporalEngine`.

Nothing is imported here: the sandbox of workflow code imports this file for every run.
"""
