"""Workflows: what happens in which order, and how it is undone. No data science, no MLflow, no gRPC here."""
