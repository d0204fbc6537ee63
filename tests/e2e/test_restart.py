"""RESERVED: a second helper is writing this file now (started 00:14)."""
