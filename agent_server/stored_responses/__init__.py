"""Responses that outlive the request which made them: kept, continued, run in the background."""
