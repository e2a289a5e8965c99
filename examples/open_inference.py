"""Predictions by a client that knows nothing of mlops: NVIDIA's tritonclient, over the Open Inference Protocol.

Run it against `mlops up`, with MLOPS_ADDRESS and MLOPS_API_KEY exported; `pip install 'tritonclient[grpc]'` before.
"""

from __future__ import annotations

import os

import numpy as np
import tritonclient.grpc as triton
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

import mlops

frame = load_iris(as_frame=True).frame
rows = frame.drop(columns="target").head(3)

with mlops.Client() as client:
    dataset = client.datasets.upload(frame, name="iris")
    job = client.train(LogisticRegression(max_iter=500), dataset, target="target", name="iris", holdout=0.2)
    print("trained", job.wait().model_uri)

server = triton.InferenceServerClient(os.environ["MLOPS_ADDRESS"])
headers = {"authorization": f"Bearer {os.environ['MLOPS_API_KEY']}"}
assert server.is_server_live(headers=headers)
assert server.is_server_ready(headers=headers)
assert server.is_model_ready("iris", headers=headers)
metadata = server.get_model_metadata("iris", headers=headers)
print(metadata.platform, "versions", list(metadata.versions), "takes", [tensor.name for tensor in metadata.inputs])

# Every feature is a number: one tensor holds them all.
matrix = triton.InferInput("rows", list(rows.shape), "FP64")
matrix.set_data_from_numpy(rows.to_numpy())
outputs = [triton.InferRequestedOutput("predict"), triton.InferRequestedOutput("predict_proba")]
answer = server.infer("iris", [matrix], outputs=outputs, headers=headers, client_timeout=30)
print("labels", answer.as_numpy("predict"), "probabilities", answer.as_numpy("predict_proba").round(3).tolist())

# A tensor for each feature does as well, of any type of numbers, and a version may be named.
features = []
for name, values in rows.items():
    feature = triton.InferInput(name, [len(values), 1], "FP32")
    feature.set_data_from_numpy(values.to_numpy(dtype=np.float32).reshape(-1, 1))
    features.append(feature)
again = server.infer("iris", features, model_version="1", headers=headers, client_timeout=30)
assert (again.as_numpy("predict") == answer.as_numpy("predict")).all()

try:
    server.infer("iris", features[1:], headers=headers, client_timeout=30)
except triton.InferenceServerException as error:
    print("refused:", error.message())
server.close()
print(f"iris {answer.get_response().model_version} answered {len(rows)} rows of an unmodified client")
