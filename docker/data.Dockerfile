# Preparing text on machines without a GPU; it carries no torch. From the repository root:
#   docker build -f docker/data.Dockerfile -t sesame-data .
#   docker run --shm-size 2g -v "$PWD/runs:/data/runs" sesame-data prepare configs/corpus/demo.toml --output runs/dataset
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ENV PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

WORKDIR /data
COPY constraints.txt ./
RUN pip install -c constraints.txt setuptools numpy scipy pyarrow pydantic ray rich sentencepiece tokenizers typer typing-extensions \
    fsspec backports.zstd datasketch filelock ftfy matplotlib numba protobuf py3langid
COPY pyproject.toml README.md LICENSE ./
COPY configs configs
COPY data_pipeline data_pipeline
COPY pretrain pretrain
COPY evaluation evaluation
COPY launch launch
# Without its requirements: those of this stage are installed above, and the rest is never imported here.
RUN pip install --no-deps --no-build-isolation -e .
# Beside the package, where every user can read it. On another kind of processor the loops are compiled once more, and
# kept if NUMBA_CACHE_DIR or ~/.cache can be written.
RUN sesame compile

ENTRYPOINT ["sesame"]
CMD ["--help"]
