from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mlops

frame = load_breast_cancer(as_frame=True).frame

with mlops.Client() as client:  # MLOPS_ADDRESS and MLOPS_API_KEY say where, and as whom
    dataset = client.datasets.upload(frame, name="tumours")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=500))
    job = client.train(model, dataset, target="target", name="tumours", folds=5, holdout=0.2)
    for event in job.watch():
        if event.step:
            print(event.step.step, event.step.state, event.step.message)
    result = job.wait()
    print(result.model_uri, "accuracy on rows never seen:", round(result.report.holdout["accuracy"], 3))
