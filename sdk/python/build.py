"""Builds the wheel and the sdist into a folder, with the standard library alone: the same bytes from the same files."""

import base64
import gzip
import hashlib
import io
import re
import sys
import tarfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
VERSION = re.search(r'^version = "(.+)"$', (HERE / "pyproject.toml").read_text(), re.MULTILINE)[1]
NAME = f"gpuo-{VERSION}"
SUMMARY = re.search(r'^description = "(.+)"$', (HERE / "pyproject.toml").read_text(), re.MULTILINE)[1]
#: The earliest that a zip can say.
EPOCH = (1980, 1, 1, 0, 0, 0)

METADATA = f"""\
Metadata-Version: 2.1
Name: gpuo
Version: {VERSION}
Summary: {SUMMARY}
License: MIT
Requires-Python: >=3.9
Description-Content-Type: text/markdown

{(HERE / "README.md").read_text()}"""


def modules():
    return sorted(path for path in (HERE / "gpuo").iterdir() if path.suffix == ".py" or path.name == "py.typed")


def wheel(folder: Path) -> Path:
    info = f"{NAME}.dist-info"
    files = {f"gpuo/{path.name}": path.read_bytes() for path in modules()}
    files[f"{info}/METADATA"] = METADATA.encode()
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nGenerator: gpuo\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    lines = [f"{name},sha256={digest(content)},{len(content)}" for name, content in files.items()]
    files[f"{info}/RECORD"] = ("\n".join([*lines, f"{info}/RECORD,,"]) + "\n").encode()
    made = folder / f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            archive.writestr(entry, content)
    return made


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def sdist(folder: Path) -> Path:
    files = {f"gpuo/{path.name}": path.read_bytes() for path in modules()}
    files.update({name: (HERE / name).read_bytes() for name in ("pyproject.toml", "README.md")})
    files["PKG-INFO"] = METADATA.encode()
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in sorted(files.items()):
            entry = tarfile.TarInfo(f"{NAME}/{name}")
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    made = folder / f"{NAME}.tar.gz"
    made.write_bytes(gzip.compress(plain.getvalue(), mtime=0))
    return made


for made in (wheel(Path(sys.argv[1])), sdist(Path(sys.argv[1]))):
    print(made)
