# syntax=docker/dockerfile:1
# Two images: "build" makes and gates engines (torch and all), "cpu" (the default) serves them and has no torch.
#   docker build --target build -t vitrine-build . ; docker run -v "$PWD/model_repository:/app/model_repository" vitrine-build
#   docker build -t vitrine . ; docker run -p 8000:8000 -p 8001:8001 -p 8002:8002 -v "$PWD/model_repository:/app/model_repository:ro" vitrine
FROM python:3.11-slim-bookworm AS base
ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /app
RUN python -m venv /opt/venv && useradd --system --uid 10001 --no-create-home vitrine
ENV PATH="/opt/venv/bin:$PATH"

# Dependencies first: they change less often than our code.
FROM base AS runtime-deps
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY server/__init__.py server/__init__.py
RUN pip install --constraint constraints.txt . && pip uninstall --yes vitrine

FROM base AS build
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY server server
COPY build_engines build_engines
COPY loadtest loadtest
RUN pip install --constraint constraints.txt '.[builder,tensorrt-rtx]'
RUN mkdir -p /app/model_repository /app/.workspace && chown -R vitrine /app
USER vitrine
ENTRYPOINT ["python", "-m", "build_engines"]
CMD ["run", "build_engines/recipes/sample_shop.toml"]

FROM base AS cpu
COPY --from=runtime-deps /opt/venv /opt/venv
COPY server server
USER vitrine
ENV VITRINE_HOST=0.0.0.0
EXPOSE 8000 8001 8002
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=2s --start-period=10s CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=1)"]
ENTRYPOINT ["python", "-m", "server"]
