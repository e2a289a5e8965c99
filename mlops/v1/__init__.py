"""Generated from protos/mlops/v1 by `make proto`; do not edit."""
