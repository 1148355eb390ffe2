"""Classifies and describes an exception for a record."""

from __future__ import annotations

import errno
import traceback
from pathlib import Path

from benchmark.config import code_identity, network_files
from benchmark.config.registry import ModelEntry
from benchmark.devices.device_errors import broke_the_device, may_lack_memory, ran_out_of_memory
from benchmark.records.run_record import Failure, FailureKind
from benchmark.training import probe
from benchmark.training.determinism import NotDeterministicError
from benchmark.training.loop import NonFiniteLossError
from benchmark.utils import logs
from benchmark.utils.errors import UserError


def classify(error: BaseException) -> FailureKind:
    """Return the kind of failure of an exception."""
    if isinstance(error, NonFiniteLossError):
        return "nan_loss"
    if isinstance(error, NotDeterministicError):
        return "not_deterministic"
    # "... not implemented for 'Half'": the device has no kernel for a number format.
    if isinstance(error, NotImplementedError) or " not implemented for '" in str(error):
        return "unsupported"
    if ran_out_of_memory(error):
        return "out_of_memory"
    if broke_the_device(error):
        return "cuda_error"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return "disk_full"
        if isinstance(cause, OSError) and cause.errno == errno.ENOMEM:
            return "out_of_memory"
        cause = cause.__cause__
    return "bad_input" if isinstance(error, UserError) else "error"


def describe_failure(
    error: BaseException, memory_advice: str = "", entry: ModelEntry | None = None, log: Path | None = None
) -> Failure:
    """Describe an exception for a record, with remedies for too little memory, a user network's line and the log."""
    kind = classify(error)
    message = f"{type(error).__name__}: {error}" if not isinstance(error, UserError) else str(error)
    if kind == "out_of_memory" and memory_advice:
        message = f"out of memory; {memory_advice} ({message})"
    elif kind == "cuda_error" and memory_advice and may_lack_memory(error):
        message = f"{message}; often memory has run out: {memory_advice}"
    if probe.ONE_VALUE in message:
        message = f"{message}; {probe.one_value_advice()}"
    if kind in ("error", "unsupported"):
        line = network_files.location(error, code_identity.code(entry)) if entry else ""
        sources = [f"raised in {line}"] * bool(line) + ([f"the whole stack is in {log.as_posix()}"] if log else [])
        message += f" ({'; '.join(sources)})" if sources else ""
    return Failure(kind=kind, message=message, log=logs.quoted("".join(traceback.format_exception(error))))
