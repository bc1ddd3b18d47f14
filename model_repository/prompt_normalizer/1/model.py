from gpt_oss_triton.triton_backend.normalizer_model import NormalizerModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
