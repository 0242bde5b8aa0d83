# Data preparation on machines without a GPU; torch is not installed. From the repository root:
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
COPY sesame sesame
COPY configs configs
COPY data_pipeline data_pipeline
COPY pretrain pretrain
COPY evaluation evaluation
COPY launch launch
# --no-deps: the requirements of this stage are installed above, and it imports no others.
RUN pip install --no-deps --no-build-isolation -e .
# The cache is in the package folder, which every user can read. On another kind of processor the loops are compiled
# again, and cached if NUMBA_CACHE_DIR or ~/.cache is writable.
RUN sesame compile

ENTRYPOINT ["sesame"]
CMD ["--help"]
