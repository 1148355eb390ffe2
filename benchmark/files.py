"""Writing files so that a crash leaves the old content or the new, never a part."""

from __future__ import annotations

import contextlib
import os
import uuid
from pathlib import Path

from benchmark.errors import UserError


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file by write-temp, fsync and rename: a reader sees the old content or the new, never a part.

    Raises:
        UserError: the place cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(
            f"{path}: cannot be written ({error.strerror or error}); choose another place or free the disk"
        ) from error
    finally:
        with contextlib.suppress(OSError):  # nothing is left where the rename was reached
            temporary.unlink()
