from gpt_oss_triton.triton_backend.engine_model import EngineModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
