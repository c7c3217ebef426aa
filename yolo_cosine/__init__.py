"""yolo-cosine: train YOLO detectors from one YAML file, with the learning-rate schedule as a first-class thing."""

__version__ = "0.1.0"
