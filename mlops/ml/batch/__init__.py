"""Batch inference: shards of an input of any size, predicted one by one."""
