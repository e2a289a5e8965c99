"""The gateway: the one door of the platform. gRPC on the outside, tenants, storage, MLflow and Temporal inside."""
