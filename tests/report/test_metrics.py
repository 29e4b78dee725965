"""Reports of a metric that is no accuracy and of which less is better."""



from paretrim.metric import Metric

ERROR = Metric("mean squared error", "px", higher_is_better=False)
