"""The serving host: answers online predictions, beside the CPU workers and apart from their pool."""
