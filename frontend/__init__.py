"""The OpenAI shim: HTTP and SSE on one side, Triton's gRPC on the other. Never imports torch."""
