# Triton with the gpt-oss model repository. Build from the project's root:
#   docker build -f docker/triton.Dockerfile -t gpt-oss-triton .
ARG TRITON_RELEASE=26.06
FROM nvcr.io/nvidia/tritonserver:${TRITON_RELEASE}-py3

# The Python backend takes its packages from the environment of the first python3 on PATH.
# A container that sees no GPU should say so, and not answer from a CPU: for that set GPT_OSS_DEVICE=cpu.
ENV VIRTUAL_ENV=/opt/gpt-oss-triton/venv \
    PATH=/opt/gpt-oss-triton/venv/bin:${PATH} \
    PIP_NO_CACHE_DIR=1 \
    HF_HUB_OFFLINE=1 \
    GPT_OSS_DEVICE=cuda \
    XDG_CACHE_HOME=/var/cache/gpt-oss \
    TRITON_CACHE_DIR=/var/cache/gpt-oss/triton
# Compiled kernels lie there: the server's user may have no home.
RUN python3 -m virtualenv /opt/gpt-oss-triton/venv && install --directory --owner=1000 --group=1000 /var/cache/gpt-oss

WORKDIR /opt/gpt-oss-triton
COPY pyproject.toml README.md LICENSE ./
COPY constraints/container.txt constraints/
COPY src src
COPY frontend frontend
RUN pip install --constraint constraints/container.txt ".[engine]"
COPY model_repository /models

# NVIDIA's image brings this user, triton-server, for a server without root.
USER 1000
EXPOSE 8000 8001 8002
HEALTHCHECK --interval=10s --timeout=5s --start-period=15m --retries=3 \
    CMD ["curl", "--fail", "--silent", "http://127.0.0.1:8000/v2/health/ready"]
CMD ["tritonserver", "--model-repository=/models", "--model-control-mode=explicit", "--load-model=gpt-oss-20b", "--disable-auto-complete-config"]
