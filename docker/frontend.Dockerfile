# The OpenAI shim: no torch, no GPU. Build from the project's root:
#   docker build -f docker/frontend.Dockerfile -t gpt-oss-frontend .
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

ENV PIP_NO_CACHE_DIR=1 \
    PYTHONUNBUFFERED=1 \
    GPT_OSS_HOST=0.0.0.0 \
    GPT_OSS_PORT=8000

WORKDIR /opt/gpt-oss-triton
COPY pyproject.toml README.md LICENSE ./
COPY constraints/container.txt constraints/
COPY src src
COPY frontend frontend
RUN pip install --constraint constraints/container.txt ".[frontend]" \
    && useradd --system --uid 999 --no-create-home shim

USER 999
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/livez', timeout=4)"]
CMD ["python", "-m", "frontend"]
