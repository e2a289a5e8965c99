"""Tenants: who they are, what they may use, which keys open them, and how they are set up."""
