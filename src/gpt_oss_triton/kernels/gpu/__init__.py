"""gpt-oss in the Triton language, for NVIDIA GPUs from compute capability 8.0 on.

One kernel family a file: the kernels, and the functions that choose tile sizes and launch them. Each is held
to a torch reference by the tests, which run them in Triton's interpreter where there is no GPU. Nothing here
waits for the GPU or reads a tensor back, so that all of it can be captured in a CUDA graph.

Import this package only where Triton is installed; the CPU path does not need it.
"""
