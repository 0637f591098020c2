"""What comes nearest to a file or folder that no reader takes, told by suffixes."""

from __future__ import annotations

from pathlib import Path

_READ_ALONE = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".npz", ".json")
_TABLE = "a table needs a header with label and text (or path, or pixels)"
_NEAREST = {
    (".txt", ".text", ".tab", ".dat", ".data"): f"name it .tsv or .csv if it is a table: {_TABLE}",
    (".xls", ".xlsx", ".ods", ".feather", ".arrow", ".pkl", ".pickle"): f"save it as .csv or .parquet: {_TABLE}",
    (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".zst"): "unpack the archive, and give the folder",
    (".npy", ".pt", ".h5", ".hdf5", ".mat"): "save the arrays as .npz with images and labels",
    (".jpg", ".jpeg", ".png", ".bmp", ".webp"): "a single picture; give the folder that holds class/file.jpg",
    (".wav", ".flac", ".mp3", ".ogg"): "a single recording; give the folder that holds label/file.wav",
    (".onnx",): "a model; --data takes the evaluation set",
    (".toml", ".yaml", ".yml"): "a configuration; --data takes the evaluation set",
}


def nearest(path: Path) -> str:
    """One sentence for an existing file: what it seems to be and what to do with it."""
    suffix = path.suffix.lower()
    for suffixes, advice in _NEAREST.items():
        if suffix in suffixes:
            return f"{suffix}: {advice}."
    return f"{suffix or 'no suffix'}: data is a folder, or a table .csv, .tsv, .jsonl or .parquet; {_TABLE}."


def nearest_in(folder: Path) -> str:
    """A sentence with a leading blank on the first file of a folder that can be data; else nothing."""
    files = sorted(path for path in folder.iterdir() if path.is_file())
    for path in files:
        if path.suffix.lower() in _READ_ALONE:
            return f" It holds {path.name!r}: give that file."
    for path in files:
        if any(path.suffix.lower() in suffixes for suffixes in _NEAREST):
            return f" It holds {path.name!r}. {nearest(path)}"
    return ""
