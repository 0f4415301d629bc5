"""The rule-based planner: no model, no key."""

from providers.offline.adapter import MODEL, OfflineProvider

__all__ = ["MODEL", "OfflineProvider"]
