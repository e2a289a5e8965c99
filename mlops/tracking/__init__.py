"""MLflow behind a protocol: runs, models and versions of one tenant at a time. Nothing here imports mlflow."""
