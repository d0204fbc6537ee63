"""Reports to operators: events, explanations of failures, expiry, metrics, the timeline, key files
on request.

Knows nothing of how the engine decides; gets facts and makes texts of them.
"""
