"""The prompts of a task that names a dataset: ``dataset.py TASK`` writes them to standard output, as a JSON list."""
import json
import os
import re
import sys
from pathlib import Path

MAX_PROMPTS = 100_000
KINDS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".parquet": "parquet", ".txt": "text"}
# `name` or `org/name`, as the rules for documents have it: the library would take anything else for a folder or an address.
NAME = re.compile(r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9][A-Za-z0-9._-]{0,127})?", re.ASCII)


class DatasetError(Exception):
    """Something that whoever sent the task can change."""


def rows_of(data):
    """What ``data`` names, on the hub or at an address; a stream when ``buffer_size`` is given."""
    try:
        from datasets import load_dataset
    except ImportError as error:
        raise DatasetError("data names a dataset, and the package datasets is not installed") from error
    source = data.get("dataset_name") or data.get("url") or data.get("name")
    if not source:
        raise DatasetError("data has neither prompts nor a dataset")
    options = {"split": data.get("split") or "train", "streaming": bool(data.get("buffer_size"))}
    # Only an address in `url` has been judged.
    if source == data.get("url") and source.startswith(("http://", "https://")):
        kind = KINDS.get(os.path.splitext(source.split("?")[0])[1])
        if kind is None:
            raise DatasetError(f"data.url: expected an address that ends in one of {', '.join(sorted(KINDS))}")
        return load_dataset(kind, data_files=source, **options)
    if NAME.fullmatch(source) is None:
        raise DatasetError(f"data: expected name or org/name of A-Z a-z 0-9 . _ -, not {source}")
    # Beside an address on the hub, `name` is the configuration's.
    config = data.get("config_name") or (data.get("name") if source != data.get("name") else None)
    return load_dataset(source, config, **options)


def prompts_of(data):
    rows = rows_of(data)
    if data.get("shuffle"):
        buffer = {"buffer_size": data["buffer_size"]} if data.get("buffer_size") else {}
        rows = rows.shuffle(seed=data.get("seed") or 0, **buffer)
    rows = rows.take(min(data.get("max_samples") or MAX_PROMPTS, MAX_PROMPTS))
    names = rows.column_names or []
    column = data.get("column") or ("prompt" if "prompt" in names else names[0] if names else None)
    prompts = []
    for row in rows:
        if column is None:
            column = next(iter(row))
        if column not in row:
            raise DatasetError(f"data.column: the dataset has no column {column}, but {', '.join(row)}")
        prompts.append(str(row[column]))
    return prompts


def share_of(prompts):
    """Of several replicas each has every so many-th, as with prompts that stand in the task."""
    replica = int(os.environ.get("GPU_ORCHESTRATOR_REPLICA", "0"))
    return prompts[replica :: int(os.environ.get("GPU_ORCHESTRATOR_REPLICAS", "1"))]


def main():
    data = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")).get("spec", {}).get("data", {})
    # What the library says on its way is no prompt.
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        json.dump(share_of(prompts_of(data)), out)
        return 0
    except DatasetError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
