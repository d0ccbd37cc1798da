"""The checkpoint of a training: one file, replaced whole at the end of every epoch.

The checkpoint holds all that the next epoch depends on: weights, batch-norm statistics, the optimiser's moments, the history (from
which the plateau schedule follows), the time used, and the best epoch's weights.  There is no random state: the network draws nothing
while it trains, and the batches of an epoch are a function of the epoch's number.  So a resumed run equals an uninterrupted one, bit for
bit.
"""

import hashlib
import io
import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tomostream.errors import ExistsError, InputError
from tomostream.fingerprint import Fingerprint
from tomostream.learn.training_files import CHECKPOINT_NAME
from tomostream.remote.atomic_files import write_atomically

_FORMAT = 1
_MARK = b"sha256:"  # the file ends with this and the hash of all before it, because torch's format does not detect flipped bits

Row = dict[str, float]
Weights = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True)
class TrainingState:
    """Training at the end of an epoch; tensors are on the CPU."""

    epoch: int  # epochs done
    step: int  # steps done
    elapsed: float  # seconds used, over all runs
    weights: Weights
    optimiser: dict[str, Any]
    best_weights: Weights  # with recalibrated batch-norm statistics
    best_epoch: int  # counted from 1
    rows: list[Row]  # one per epoch


def save_checkpoint(folder: Path, state: TrainingState, fingerprint: Fingerprint) -> None:
    """Replace the folder's checkpoint.

    Raises
    ------
    InputError
        If it can't be written.
    """
    content = {"format": _FORMAT, "fingerprint": _canonical(fingerprint)} | {name: getattr(state, name) for name in TrainingState.__slots__}
    buffer = io.BytesIO()  # torch reports a full disk as an internal error; writing the bytes ourselves gives the real one
    torch.save(content, buffer)
    data = buffer.getvalue()
    write_atomically(folder / CHECKPOINT_NAME, data + _MARK + hashlib.sha256(data).digest())


def load_checkpoint(folder: Path, fingerprint: Fingerprint) -> TrainingState | None:
    """Read the folder's checkpoint; None if there is none.

    Raises
    ------
    ExistsError
        If it was made from other input or with other settings.
    InputError
        If it can't be read, or a later version of tomostream wrote it.
    """
    path = folder / CHECKPOINT_NAME
    if not path.exists():
        return None
    try:
        content = torch.load(io.BytesIO(_whole(path.read_bytes())), map_location="cpu", weights_only=True)
        found, version = content.pop("fingerprint"), content.pop("format")
        if version != _FORMAT:
            raise InputError(
                f"checkpoint {path} has format {version}, this version of tomostream reads format {_FORMAT}: a later version wrote it; use that "
                "version, or remove it to train from the start"
            )
        state = TrainingState(**content)
    except (OSError, RuntimeError, EOFError, KeyError, TypeError, AttributeError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"checkpoint {path} can't be read ({reason}); remove it to train from the start") from None
    if found != _canonical(fingerprint):
        raise ExistsError(
            f"{folder} holds training from other input or settings ({_difference(found, fingerprint)}); "
            "use --overwrite to train anew, or another folder"
        )
    return state


def _whole(data: bytes) -> bytes:
    """Check the hash at the end of a checkpoint, and return what torch wrote; checkpoints of 0.1 have no hash.

    Raises
    ------
    ValueError
        If the hash is wrong.
    """
    end = len(data) - len(_MARK) - hashlib.sha256().digest_size
    if end < 0 or data[end : end + len(_MARK)] != _MARK:
        return data
    if hashlib.sha256(data[:end]).digest() != data[end + len(_MARK) :]:
        raise ValueError("its hash is wrong: it is damaged")
    return data[:end]


def _canonical(fingerprint: Fingerprint) -> str:
    return json.dumps(fingerprint, sort_keys=True)


def _difference(found: str, wanted: dict[str, Any]) -> str:
    """Return the first few settings that differ, in the form `steps: 100 there, 200 here`."""
    there, here = json.loads(found), json.loads(_canonical(wanted))
    names = [name for name in sorted({*there, *here}) if there.get(name) != here.get(name)]
    texts = [f"{name}: {_short(there.get(name))} there, {_short(here.get(name))} here" for name in names[:3]]
    return "; ".join(texts)


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
