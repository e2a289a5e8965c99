"""The data science: reading data, building estimators, fitting, judging. No Temporal, no MLflow, no gRPC."""
