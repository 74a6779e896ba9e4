"""The safetensors files of a folder, checked before a weight is read.

The header of a file gives the place of each tensor, so a truncated file or a damaged header is
noticed from the header and the size alone. A flipped bit inside a weight is not noticed: the format
has no checksum.
"""

import math
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from secondary_sinks import files
from secondary_sinks.errors import DamagedModelError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
MOST_JSON = 1 << 26
"""Largest size of a config or an index, in bytes; those of the largest models have about 10 MB."""
LFS_POINTER = b"version https://git-lfs"
AGAIN = "copy or download it again"


def weight_names(folder: Path) -> list[str]:
    """Names of the weight files, which may be missing in the folder.

    `model.safetensors` if it exists or there is no index, else the files that the index lists.
    Raises `DamagedModelError` for an index that cannot be read.
    """
    if (folder / SINGLE).exists() or not (folder / INDEX).exists():
        return [SINGLE]
    return sorted(set(_weight_map(folder).values()))


def check_weights(folder: Path) -> int:
    """Check that the weight files of a folder are complete; the number of values in them.

    Raises `DamagedModelError` that names a file which is missing, truncated or damaged.
    """
    names = weight_names(folder)
    _refuse_missing(folder, names)
    shapes = {name: _tensor_shapes(folder / name) for name in names}
    if names != [SINGLE]:
        _refuse_misplaced(folder, shapes)
    return sum(math.prod(shape) for tensors in shapes.values() for shape in tensors.values())


def refuse_integers(folder: Path) -> None:
    """Raise `DamagedModelError` for a weight that is stored as whole numbers or truth values.

    transformers would make floats of them without a word. Buffers of other kinds are no weights.
    """
    for name in weight_names(folder):
        with safe_open(folder / name, framework="np") as opened:
            for key in opened.keys():  # noqa: SIM118
                kind = opened.get_slice(key).get_dtype()
                if key.endswith(".weight") and not kind.startswith(("F", "BF")):
                    raise DamagedModelError(
                        f"weight {key!r} in {str(folder / name)!r} is stored as {kind}",
                        f"expected "
                        f"floating-point numbers, or a config that says how it is packed; {AGAIN}",
                    )


def stored_bytes(folder: Path) -> int:
    """Size of the weight files of a folder, in bytes."""
    return sum((folder / name).stat().st_size for name in weight_names(folder))


def refuse_other_weights(name: str, architecture: str, loading_info: dict[str, Any]) -> None:
    """Raise `DamagedModelError` unless the stored weights are exactly those of the model.

    `loading_info` is the report of transformers, which makes up weights that are missing or have
    another shape, and ignores weights that the model does not have.
    """
    shapes = [
        f"{key} is {list(stored)}, not {list(expected)}"
        for key, stored, expected in loading_info["mismatched_keys"]
    ]
    unexpected = loading_info["unexpected_keys"]
    for problem, keys in (
        ("weights are missing", loading_info["missing_keys"]),
        (f"weights have a shape that {architecture} does not expect", shapes),
        (f"it holds weights that {architecture} has no place for", unexpected),
    ):
        if keys:
            shown = ", ".join(sorted(keys)[:3]) + (", ..." if len(keys) > 3 else "")
            raise DamagedModelError(
                f"model {name!r} cannot be loaded: {problem}: {shown}",
                "expected the files of one whole model, with the config that it was saved with",
            )


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds one object; `DamagedModelError` for any other file."""
    try:
        size = path.stat().st_size
        if size > MOST_JSON:
            raise DamagedModelError(
                f"{str(path)!r} has {size} bytes", f"expected at most {MOST_JSON}; {AGAIN}"
            )
        content = files.load_json(files.read_text(path))
    except OSError as error:
        raise DamagedModelError(f"{str(path)!r} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DamagedModelError(f"{str(path)!r} is not text in UTF-8; {AGAIN}") from error
    except ValueError as error:
        raise DamagedModelError(f"{str(path)!r} is broken JSON ({error}); {AGAIN}") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise DamagedModelError(f"{str(path)!r} holds a {kind}", f"expected a JSON object; {AGAIN}")
    return content


def _weight_map(folder: Path) -> dict[str, str]:
    """Name of each tensor -> the file that holds it, from the index."""
    found: Any = read_json(folder / INDEX).get("weight_map")
    names = list(found.values()) if isinstance(found, dict) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise DamagedModelError(
            f"{str(folder / INDEX)!r} has no 'weight_map' from tensors to files; {AGAIN}"
        )
    outside = next((name for name in names if Path(name).name != name), None)
    if outside is not None:
        raise DamagedModelError(
            f"{str(folder / INDEX)!r} points to {outside!r}", "expected files of its own folder"
        )
    return dict(found)


def _refuse_missing(folder: Path, names: list[str]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if not missing:
        return
    if names == [SINGLE]:
        raise DamagedModelError(
            f"folder {str(folder)!r} has neither {SINGLE} nor {INDEX}",
            "expected weights under these names, as save_pretrained writes them",
        )
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    present = f"{len(names) - len(missing)} of {len(names)} files are there"
    raise DamagedModelError(
        f"folder {str(folder)!r} lacks {missing[0]!r}{more}, which its index names; {present}: "
        "copy or download the rest"
    )


def _tensor_shapes(path: Path) -> dict[str, list[int]]:
    """Shape of each tensor of a file, from its header."""
    try:
        with files.open_file(path) as file:
            start = file.read(len(LFS_POINTER))
        if not start:
            raise DamagedModelError(f"weight file {str(path)!r} is empty; {AGAIN}")
        if start == LFS_POINTER:
            raise DamagedModelError(
                f"weight file {str(path)!r} is a Git LFS pointer, not the weights",
                "run `git lfs pull` in its folder",
            )
        # With torch, memory for the whole file would be reserved to read a header.
        with safe_open(path, framework="np") as opened:
            return {name: opened.get_slice(name).get_shape() for name in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        size = path.stat().st_size
        reason = str(error).removeprefix("Error while deserializing header: ")
        raise DamagedModelError(
            f"weight file {str(path)!r} ({size} bytes) is truncated or damaged ({reason}); {AGAIN}"
        ) from error


def _refuse_misplaced(folder: Path, shapes: dict[str, dict[str, list[int]]]) -> None:
    """Refuse shards that do not hold the tensors which the index says they hold, or others too."""
    places = _weight_map(folder)
    for file, held in shapes.items():
        twice = next((tensor for tensor in held if places.get(tensor, file) != file), None)
        if twice is not None:
            raise DamagedModelError(
                f"weight file {str(folder / file)!r} holds {twice!r} too, which the index says is "
                f"in {places[twice]!r}; the files are not of one model: {AGAIN}"
            )
    for tensor, name in places.items():
        if tensor not in shapes[name]:
            raise DamagedModelError(
                f"weight file {str(folder / name)!r} lacks {tensor!r}, which the index says is in "
                f"it; the files are not of one model: {AGAIN}"
            )
