"""Protos to domain values and back, errors to statuses and back. Used by the gateway and by the SDK."""
