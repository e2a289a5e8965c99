"""Activities: the effects of the workflows. `cpu` hands work to the process pool, `io` talks to storage and MLflow."""
