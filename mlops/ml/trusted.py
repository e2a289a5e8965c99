"""The platform's allow-list of types inside model files, besides those that skops trusts by itself.

Every type here only holds numbers, or computes with them: none opens a file, starts a program, imports by a
name from the file or calls what it is given. A new one is added with its reason, after reading its class.
The arrays of trees (Tree, TreePredictor, KDTree, BallTree) are not checked for sense when they are read: a
tampered one can crash the process that predicts with it, so models are only ever used in a killable child.

Never to be added: scipy's distributions. Their classes execute a text that they read from their own state.
"""

from __future__ import annotations

# What for, and which types.
_REASONS: dict[str, tuple[str, ...]] = {
    "trees of decision trees, forests and boosting: arrays of nodes": (
        "sklearn.tree._tree.Tree",
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.ensemble._iforest._IsolationForest",
    ),
    "neighbour search: arrays of points": (
        "sklearn.neighbors._kd_tree.KDTree",
        "sklearn.neighbors._kd_tree.KDTree64",
        "sklearn.neighbors._kd_tree.KDTree32",
        "sklearn.neighbors._ball_tree.BallTree",
        "sklearn.neighbors._ball_tree.BallTree64",
        "sklearn.neighbors._ball_tree.BallTree32",
        *(
            f"sklearn.metrics._dist_metrics.{name}Distance{bits}"
            for name in (
                "BrayCurtis", "Canberra", "Chebyshev", "Dice", "Euclidean", "Hamming", "Haversine", "Jaccard",
                "Mahalanobis", "Manhattan", "Minkowski", "RogersTanimoto", "RussellRao", "SEuclidean", "SokalSneath",
                "Yule",
            )
            for bits in ("", "32", "64")
        ),
    ),
    "kernels of Gaussian processes: a few numbers each": (
        "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
        *(
            f"sklearn.gaussian_process.kernels.{name}"
            for name in (
                "CompoundKernel", "ConstantKernel", "DotProduct", "ExpSineSquared", "Exponentiation", "Hyperparameter",
                "Matern", "PairwiseKernel", "Product", "RBF", "RationalQuadratic", "Sum", "WhiteKernel",
            )
        ),
    ),
    "losses and links: formulas": (
        "sklearn._loss.loss.HalfTweedieLoss",
        "sklearn._loss.loss.HalfTweedieLossIdentity",
        "sklearn._loss.loss.HalfPoissonLoss",
        "sklearn._loss.loss.HalfGammaLoss",
        "sklearn._loss.loss.PinballLoss",
        "sklearn._loss.loss.AbsoluteError",
    ),
    "optimisers of the multi-layer perceptron: arrays of moments": (
        "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
        "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    ),
    "parts that meta-estimators make of themselves: they hold estimators, which are checked in turn": (
        "sklearn.calibration._CalibratedClassifier",
        "sklearn.calibration._SigmoidCalibration",
        "sklearn.calibration._TemperatureScaling",
        "sklearn.cluster._bisect_k_means._BisectingTree",
        "sklearn.multiclass._ConstantPredictor",
        "sklearn.utils._bunch.Bunch",
    ),
    "functions of KMeans, which work on arrays": (
        "sklearn.cluster._kmeans._kmeans_single_elkan",
        "sklearn.cluster._kmeans._kmeans_single_lloyd",
    ),
    "splitters, which make indices": (
        *(
            f"sklearn.model_selection._split.{name}"
            for name in (
                "KFold", "LeaveOneOut", "LeavePOut", "PredefinedSplit", "RepeatedKFold", "RepeatedStratifiedKFold",
                "ShuffleSplit", "StratifiedKFold", "StratifiedShuffleSplit", "TimeSeriesSplit",
            )
        ),
    ),
    "scorers by name, and the metrics that they hold: functions of two arrays": (
        "sklearn.metrics._scorer._CurveScorer",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.utils._metadata_requests.MetadataRequest",
        "sklearn.utils._metadata_requests.MethodMetadataRequest",
        *(
            f"sklearn.metrics._classification.{name}"
            for name in (
                "accuracy_score", "balanced_accuracy_score", "brier_score_loss", "d2_brier_score", "d2_log_loss_score",
                "f1_score", "jaccard_score", "log_loss", "matthews_corrcoef", "negative_likelihood_ratio",
                "positive_likelihood_ratio", "precision_score", "recall_score",
            )
        ),
        "sklearn.metrics._ranking.average_precision_score",
        "sklearn.metrics._ranking.roc_auc_score",
        "sklearn.metrics._ranking.top_k_accuracy_score",
        *(
            f"sklearn.metrics._regression.{name}"
            for name in (
                "d2_absolute_error_score", "explained_variance_score", "max_error", "mean_absolute_error",
                "mean_absolute_percentage_error", "mean_gamma_deviance", "mean_poisson_deviance", "mean_squared_error",
                "mean_squared_log_error", "median_absolute_error", "r2_score", "root_mean_squared_error",
                "root_mean_squared_log_error",
            )
        ),
    ),
    "functions that a spec may name: of arrays, to arrays": (
        "numpy.max",
        "numpy.mean",
        "numpy.median",
        "numpy.min",
        "numpy.sum",
        "sklearn.feature_selection._mutual_info.mutual_info_classif",
        "sklearn.feature_selection._mutual_info.mutual_info_regression",
        "sklearn.feature_selection._univariate_selection.chi2",
        "sklearn.feature_selection._univariate_selection.f_classif",
        "sklearn.feature_selection._univariate_selection.f_regression",
        "sklearn.feature_selection._univariate_selection.r_regression",
    ),
    # HistGradientBoosting's encoder of categories. A partial's function is checked in turn; check_array only converts.
    "functions with arguments filled in": (
        "functools.partial",
        "sklearn.utils.validation.check_array",
    ),
    "selectors of columns by type or name": ("sklearn.compose._column_transformer.make_column_selector",),
    "dtypes of arrays, and the types that a spec may name for them": (
        "builtins.object",
        "numpy.dtype",
        "numpy.floating",
        "numpy.integer",
        "numpy.number",
    ),
    "splines: arrays of knots and coefficients": (
        "scipy.interpolate._bsplines.BSpline",
        "scipy._lib.array_api_compat.numpy._aliases.asarray",
    ),
    "sparse matrices: arrays": (
        "scipy.sparse._csr.csr_array",
        "scipy.sparse._csr.csr_matrix",
        "scipy.sparse._csc.csc_matrix",
    ),
}  # fmt: skip

# Type to the reason why it is safe.
TRUSTED: dict[str, str] = {name: reason for reason, types in _REASONS.items() for name in types}
