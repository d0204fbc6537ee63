"""What operators see: events, explanations of failures, expiry, the timeline, key files on request.

Knows nothing of how the engine decides; it receives facts and puts them into words.
"""
