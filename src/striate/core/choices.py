"""Values that arguments choose from. Nothing heavy is imported, so the command line can start with them."""

from typing import Literal

DeviceChoice = Literal["auto", "cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]
PrecisionChoice = Literal["auto", "fp32", "bf16"]
EnginePrecision = Literal["fp32", "bf16", "int8"]
EnginePrecisionChoice = Literal["auto", "fp32", "bf16", "int8"]
EngineName = Literal["torch", "openvino"]
EngineChoice = Literal["auto", "torch", "openvino"]
Split = Literal["auto", "train", "val", "test", "all"]
OptimizerName = Literal["sgd", "krizhevsky", "nesterov", "adamw"]

Rule = Literal["deconvnet", "gradient", "guided"]
Fill = Literal["grey", "mean", "blur"]
MapStrength = Literal["max", "mean"]
Baseline = Literal["black", "white", "mean"]
SaliencyMethod = Literal["gradient", "guided", "smoothgrad", "integrated"]
SanityMethod = Literal["gradient", "guided", "deconvnet", "smoothgrad", "integrated", "gradcam"]
AverageOf = Literal["probabilities", "logits"]
SoupKind = Literal["uniform", "greedy", "learned"]
ClassOrder = Literal["class", "hardest"]
