"""Reads weights from untrusted files: nothing in them is executed, and everything is checked first.

``torch.load(weights_only=True)`` stops code, but neither flipped bits (it ignores the archive's checksums) nor archives that
unpack to far more than they hold, nor tensors whose shape is larger than what is stored. These are refused here.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import nn

from paretrim.errors import CorruptFile, InvalidRecipe, WeightsMismatch, located, reason_of
from paretrim.files import NO_REGULAR, NONE, why_no_file
from paretrim.models import no_weights
from paretrim.remark import remark
from paretrim.visible import brief

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")
"""Top-level keys under which training scripts keep the weights."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every key; both may."""

AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "model_ema_state_dict")
"""Top-level keys under which they keep averages of the weights."""

COUNT_OF_AVERAGES = "n_averaged"
"""What ``torch.optim.swa_utils.AveragedModel`` adds to its weights."""

COUNTER = "num_batches_tracked"
"""BatchNorm's step counter; older files lack it and nothing depends on it."""

VARIANCE = "running_var"
"""BatchNorm's running variance."""

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")
"""The class or function that torch names when it refuses a file."""

_ZIP = b"PK\x03\x04"
_OLDER = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How files of ``torch.save`` begin: a zip archive since torch 1.6, and before that a pickle with torch's own number."""

_NUMPY_ARRAY = ".npy"
"""How the members of a NumPy archive end; torch's have other names."""

_READ = (
    *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
    *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
)
"""Types of tensors that networks here can have."""

LISTED = 12
"""How many differing keys of a kind an error lists."""

LONGEST_LINE = 300
"""Most characters of a line about one of them."""


class _Placeholder:
    """Stands in for an object that training scripts store beside the weights. It is never built, called or inspected."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


_IGNORED = {
    name: type(name.rpartition(".")[2], (_Placeholder,), {})
    for name in (
        *(f"numpy.{core}.multiarray.{made}" for core in ("core", "_core") for made in ("scalar", "_reconstruct")),
        *("numpy.dtype", "numpy.ndarray", "argparse.Namespace"),
    )
}
"""What NumPy numbers, arrays and parsed arguments are pickled as, each with a class that takes its place and does nothing."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Fill ``network`` in place from a ``.safetensors`` file or a ``torch.save`` file of any age that holds only tensors.

    Keys must fit exactly; one of :data:`WRAPPERS` around them, :data:`PREFIXES` before every one of them, another prefix
    before every one without which all fit, and a missing ``num_batches_tracked`` are accepted. Weights of 16 bits are widened,
    which changes no value, and those of 64 bits rounded to float32. On any error the network is unchanged.

    Warns if the file also holds averaged weights, which are not used.

    Raises:
        InvalidRecipe: there is no such file.
        CorruptFile: the file cannot be what it claims to be.
        WeightsMismatch: keys, shapes or dtypes differ from the network's; the message lists them.
    """
    expected = network.state_dict()
    weights = _without_prefix(read_weights(path), expected)
    with located(f"weights '{path}'"):
        weights = _in_float32(weights, expected)
        _require_fit(expected, weights)
    network.load_state_dict(dict(weights), strict=False)


def read_weights(path: Path) -> Mapping[str, torch.Tensor]:
    """Every tensor of a weights file by key, on the CPU.

    The file is read once, so what is checked is what is used.

    Raises:
        InvalidRecipe: there is no such file, or it cannot be read.
        CorruptFile: the file is damaged, is neither format, or holds tensors that are not plain.
        WeightsMismatch: it holds something other than tensors by name.
    """
    reason = why_no_file(path)
    if reason == NONE:
        raise InvalidRecipe(f"there is no weights file '{path}'; name a .safetensors or .pt file")
    if reason:
        what = f"is {reason}" if reason == NO_REGULAR else f"cannot be read: {reason}"
        raise InvalidRecipe(f"weights '{path}' {what}; name a .safetensors or .pt file that can be read")
    with located(f"weights '{path}'"):
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InvalidRecipe(f"the file cannot be read: {error.strerror}; check its permissions") from error
        loaded = _read_torch(content) if content.startswith((_ZIP, _OLDER)) else _read_safetensors(content)
        weights = _unwrapped(loaded)
        for key, tensor in weights.items():
            _require_plain(key, tensor)
        return weights


def _read_safetensors(content: bytes) -> Mapping[str, object]:
    if content[257:262] == b"ustar":
        raise CorruptFile(no_weights.convertible("a tar archive of torch before 0.1.10"))
    if content[:1] == b"\x80" and content[1:2] in b"\x02\x03\x04\x05" and content[8:9] != b"{":
        raise CorruptFile(no_weights.convertible("a plain pickle"))
    if content[8:9] != b"{":
        raise CorruptFile(no_weights.reason(content))
    try:
        loaded: Mapping[str, object] = safetensors.torch.load(content)
    except Exception as error:  # damaged headers and types that torch lacks may raise anything
        unknown = (
            f"tensors of type {error.args[0]}, which torch does not know" if isinstance(error, KeyError) else reason_of(error)
        )
        raise CorruptFile(f"not a valid safetensors file: {unknown}; download or save it again") from error
    return loaded


def _read_torch(content: bytes) -> object:
    archive = _clean_archive(content) if content.startswith(_ZIP) else io.BytesIO(content)
    try:
        with torch.serialization.safe_globals([(kind, name) for name, kind in _IGNORED.items()]):
            return torch.load(archive, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling untrusted bytes may raise anything
        # torch's own message advises switching the protection off.
        foreign = _GLOBAL.search(str(error))
        reason = f"it also holds {foreign[1]}" if foreign else (str(error).splitlines() or [""])[0]
        raise CorruptFile(
            f"torch cannot read it as plain tensors ({type(error).__name__}: {reason}); "
            "save network.state_dict() alone, best as .safetensors"
        ) from error


def _clean_archive(content: bytes) -> io.BytesIO:
    """The members of a zip archive, each checked against its checksum, in a new archive.

    torch's own zip reader checks no checksum and understands some headers differently from others: one flipped bit in the
    directory (a file marked as a folder) makes it return memory that was never written. It only ever sees our headers.
    """
    clean = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(clean, "w") as rewritten:
            members = archive.infolist()
            if members and all(member.filename.endswith(_NUMPY_ARRAY) for member in members):
                raise CorruptFile(no_weights.convertible("an archive of NumPy arrays"))
            if any("/code/" in member.filename for member in members):
                raise CorruptFile(no_weights.TORCHSCRIPT)
            _require_stored(members, len(content))
            for member in members:
                rewritten.writestr(member.filename, archive.read(member))
    except CorruptFile:
        raise
    except Exception as error:  # foreign bytes make zipfile raise OverflowError, struct.error and more
        raise CorruptFile(
            f"its zip archive cannot be read ({error}); it is truncated or damaged, copy or download it again"
        ) from error
    clean.seek(0)
    return clean


def _require_stored(members: list[zipfile.ZipInfo], size: int) -> None:
    """Refuse archives that unpack to more than they hold, or that two readers could understand differently."""
    odd = [member.filename for member in members if member.compress_type != zipfile.ZIP_STORED or member.is_dir()]
    if odd:
        raise CorruptFile(
            f"member '{odd[0]}' is compressed or a folder; torch.save stores plain members, so it did not write this file"
        )
    repeated = [name for name, count in Counter(member.filename for member in members).items() if count > 1]
    if repeated:
        raise CorruptFile(f"member '{repeated[0]}' occurs more than once; download the file again or do not trust it")
    claimed = sum(member.file_size for member in members)
    if claimed > size:
        raise CorruptFile(
            f"its members claim {claimed:,} bytes, the whole file has {size:,}; download it again or do not trust it"
        )


def _unwrapped(loaded: object) -> Mapping[str, torch.Tensor]:
    """The mapping of tensors inside ``loaded``, without wrapper."""
    if not isinstance(loaded, Mapping):
        raise WeightsMismatch(
            f"it holds an object of type {type(loaded).__name__}, not tensors by name; save network.state_dict()"
        )
    wrapper = next((key for key in WRAPPERS if isinstance(loaded.get(key), Mapping)), None)
    inner = loaded if wrapper is None else loaded[wrapper]
    if averaged := [key for key in AVERAGED if isinstance(loaded.get(key), Mapping)]:
        remark(
            f"the weights file holds averaged weights under '{averaged[0]}' beside those under '{wrapper}', which are used; save "
            "the averaged ones alone to use them"
        )
    weights: dict[str, torch.Tensor] = {}
    for key, value in inner.items():
        if not isinstance(key, str):
            raise WeightsMismatch(f"entry {brief(key)} has a name that is no text; save network.state_dict() alone")
        if isinstance(value, _Placeholder):
            raise WeightsMismatch(
                f"entry {key!r} is a NumPy array or number, not a tensor; convert the arrays with torch.from_numpy and save "
                "them alone or under the key 'state_dict'"
            )
        if not isinstance(value, torch.Tensor):
            raise WeightsMismatch(
                f"entry {key!r} is of type {type(value).__name__}, not a tensor; "
                "save network.state_dict() alone or under the key 'state_dict'"
            )
        weights[key] = value.detach()
    if not weights:
        raise WeightsMismatch("it holds no tensor at all; save network.state_dict()")
    return weights


def _without_prefix(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """``weights`` without what wrappers put before every key; a network's own names may begin so too."""
    if COUNT_OF_AVERAGES not in expected:
        weights = {key: tensor for key, tensor in weights.items() if key != COUNT_OF_AVERAGES}
    while not weights.keys() & expected.keys():
        prefix = next((prefix for prefix in PREFIXES if all(key.startswith(prefix) for key in weights)), "")
        if not prefix:
            break
        weights = {key.removeprefix(prefix): tensor for key, tensor in weights.items()}
    needed = {key for key in expected if key.rpartition(".")[2] != COUNTER}
    parts = next(iter(weights), "").split(".")
    for count in range(1, 0 if weights.keys() & expected.keys() else len(parts)):
        prefix = ".".join(parts[:count]) + "."
        inner = {key.removeprefix(prefix): tensor for key, tensor in weights.items() if key.startswith(prefix)}
        if len(inner) == len(weights) and needed <= inner.keys() <= expected.keys():
            return inner
    return weights


def _in_float32(weights: Mapping[str, torch.Tensor], expected: Mapping[str, torch.Tensor]) -> Mapping[str, torch.Tensor]:
    """``weights`` with other floats in float32, where the network has them in float32."""
    wanted = {key for key, tensor in expected.items() if tensor.dtype == torch.float32}
    other = {key for key in wanted & weights.keys() if weights[key].dtype in (torch.float16, torch.bfloat16, torch.float64)}
    found = {key: tensor.float() if key in other else tensor for key, tensor in weights.items()}
    for key in other:
        if not bool(torch.isfinite(found[key]).all()):
            most = float(weights[key].abs().max())
            raise WeightsMismatch(
                f"tensor '{key}' holds {most:g}, which float32 does not reach; scale the layer, or train it again"
            )
    return found


def _require_plain(key: str, tensor: torch.Tensor) -> None:
    """Refuse tensors that are not dense numbers in memory of their own size."""
    if tensor.dtype not in _READ and not tensor.is_quantized:
        known = ", ".join(str(dtype).removeprefix("torch.") for dtype in _READ)
        raise CorruptFile(f"tensor '{key}' has the type {tensor.dtype}; read are {known}, so convert it and save it again")
    if (
        tensor.layout is not torch.strided
        or tensor.is_quantized
        or type(tensor) is not torch.Tensor
        or tensor.device.type != "cpu"
    ):
        kind = "quantized" if tensor.is_quantized else f"{type(tensor).__name__} with layout {tensor.layout} on {tensor.device}"
        raise CorruptFile(f"tensor '{key}' is {kind}; only dense tensors are read, save it with .dequantize() or .to_dense()")
    needed, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    repeats = any(size > 1 and stride == 0 for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    if needed > stored or repeats:
        raise CorruptFile(
            f"tensor '{key}' has shape {tuple(tensor.shape)} ({needed:,} bytes) over {stored:,} stored bytes; save it contiguous"
        )
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CorruptFile(
            f"tensor '{key}' holds NaN or infinity; the file is damaged or its training had failed; download it again, or "
            "train again"
        )
    if key.rpartition(".")[2] == VARIANCE and bool((tensor < 0).any()):
        raise CorruptFile(f"tensor '{key}' holds a variance of {float(tensor.min()):g}; the file is damaged, download it again")


def _require_fit(expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor]) -> None:
    missing = [key for key in expected if key not in given and key.rpartition(".")[2] != COUNTER]
    unexpected = [key for key in given if key not in expected]
    both = [key for key in expected if key in given]
    shapes = [key for key in both if expected[key].shape != given[key].shape]
    dtypes = [key for key in both if key not in shapes and expected[key].dtype != given[key].dtype]
    complaints = [
        _listing("missing from the file", [f"{key} {_form(expected[key])}" for key in missing]),
        _listing("not in the network", [f"{key} {_form(given[key])}" for key in unexpected]),
        _listing("of another shape", [f"{key} file {_form(given[key])}, network {_form(expected[key])}" for key in shapes]),
        _listing("of another dtype", [f"{key} file {given[key].dtype}, network {expected[key].dtype}" for key in dtypes]),
    ]
    if any(complaints):
        hint = "check the network's name, its number of classes and of input channels"
        if not (missing or unexpected or shapes):
            hint = "convert them to the network's dtype and save them again"
        raise WeightsMismatch(
            f"they do not fit the network ({len(given)} tensors given, {len(expected)} expected)\n"
            + "\n".join(filter(None, complaints))
            + f"\n{hint}"
        )


def _form(tensor: torch.Tensor) -> str:
    return str(list(tensor.shape))


def _listing(what: str, lines: list[str]) -> str:
    if not lines:
        return ""
    more = f"\n    and {len(lines) - LISTED} more" if len(lines) > LISTED else ""
    shown = [line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..." for line in lines[:LISTED]]
    return f"  {len(lines)} {what}:\n    " + "\n    ".join(shown) + more
