"""Datasets, models and results by reference: an object store, a cache of it a host, and the sources it may copy."""
