"""Data sets by the names under which their owners publish them, below a data root.

Nothing is downloaded. Where files are missing, the error says which, where they were looked for,
and on which page their owner publishes them. The MD5 and SHA-256 sums are those that the owners,
or the loaders of torchvision, torchaudio, torchtext and PaddleNLP, state for the files.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from gapshift.domains.base import Dataset
from gapshift.domains.readers import cifar, folder, glue, speech, squad
from gapshift.errors import DataError, UnknownNameError
from gapshift.schema import DataSource

ROOT_VARIABLE = "GAPSHIFT_DATA_ROOT"


@dataclass(frozen=True, slots=True)
class Published:
    """One published data set.

    ``folders`` are where its files may lie below the root, the owner's own name first;
    ``telling`` are files or folders, one of which tells that it is there. ``sums`` holds the
    published digest of each file (MD5 of 32 hex digits, SHA-256 of 64), ``archives`` those of
    what the owner lets one download. ``read(folder, labels, classes)``; ``left_out(folder)`` says
    what of the files is no item.
    """

    name: str
    folders: tuple[str, ...]
    telling: tuple[str, ...]
    expected: str
    page: str
    size: str
    read: Callable[[Path, Sequence[str] | None, Sequence[str] | None], Dataset]
    sums: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    left_out: Callable[[Path], list[str]] = lambda _: []


def is_published(source: str) -> bool:
    """Whether ``source`` is the name of a published data set."""
    return source in PUBLISHED


def located(name: str, root: str | Path | None = None) -> Path:
    """The folder of a published data set below ``root``, else below GAPSHIFT_DATA_ROOT.

    Raises UnknownNameError for another name, and DataError where the files are not there: it
    says what to get from where, and whether an archive lies there that is still to be unpacked.
    """
    if name not in PUBLISHED:
        raise UnknownNameError("published data set", name, PUBLISHED)
    entry = PUBLISHED[name]
    home = data_root(root)
    if home is None:
        raise DataError(
            f"{name} is published data, and no data root is set. Name the folder that it lies in: data.root in the "
            f"configuration, --data-root, or {ROOT_VARIABLE}. {_how_to_get(entry)} A path, such as ./{name}, works too."
        )
    for place in (home / below for below in entry.folders):
        if any((place / file).exists() for file in entry.telling):
            return place
    raise DataError(f"{name} is not below {home}: {_looked_for(entry, home)}. {_how_to_get(entry)}")


def data_root(root: str | Path | None) -> Path | None:
    """The folder of published data: the given one, else that of GAPSHIFT_DATA_ROOT, if set."""
    given = str(root) if root is not None else os.environ.get(ROOT_VARIABLE, "")
    return Path(given).expanduser() if given else None


def read_published(
    name: str, labels: Sequence[str] | None, root: str | Path | None, classes: Sequence[str] | None = None
) -> Dataset:
    """The data set of this name. Raises as ``located`` and its reader do."""
    return PUBLISHED[name].read(located(name, root), labels, classes)


def published_notes(source: DataSource) -> list[str]:
    """What a report has to say of a source: files that are not the published ones, and what is left out.

    Empty for data without a published name. Raises as ``located`` does.
    """
    if not is_published(source.source):
        return []
    entry = PUBLISHED[source.source]
    place = located(entry.name, source.root)
    return _different(entry.sums, place) + [f"{entry.name}: {note}" for note in entry.left_out(place)]


def file_digest(path: Path, algorithm: str = "sha256") -> str:
    """A file's digest in hex. Raises DataError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def _different(sums: Mapping[str, str], place: Path) -> list[str]:
    notes = []
    for name, expected in sums.items():
        if (place / name).is_file() and (found := file_digest(place / name, _algorithm(expected))) != expected:
            kind = {"md5": "MD5", "sha256": "SHA-256"}[_algorithm(expected)]
            notes.append(f"{name} is not the published file: {kind} {found}, expected {expected}")
    return notes


def _algorithm(digest: str) -> str:
    return "md5" if len(digest) == 32 else "sha256"


def _looked_for(entry: Published, home: Path) -> str:
    if not home.is_dir():
        return f"{home} is no folder"
    for name, expected in entry.archives.items():
        if (home / name).is_file():
            whole = file_digest(home / name, _algorithm(expected)) == expected
            state = "is there and whole: unpack it" if whole else "is not the published one, or cut short: get it again"
            return f"{home / name} {state}"
    return f"looked for {' or '.join(entry.telling)} in {', '.join(str(home / below) for below in entry.folders)}"


def _how_to_get(entry: Published) -> str:
    return (
        f"Expected: {entry.expected}. The owner publishes it at {entry.page} ({entry.size}). "
        "gapshift downloads nothing by itself."
    )


# ----------------------------------------------------------------------------- the list

_CIFAR_PAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
_GLUE_PAGE = "https://gluebenchmark.com/tasks"
_SPEECH_PAGE = "https://www.tensorflow.org/datasets/catalog/speech_commands"


def _read_cifar(place: Path, labels: Sequence[str] | None, _: Sequence[str] | None) -> Dataset:
    return cifar.read_cifar(place, labels)


def _glue(
    name: str, folders: tuple[str, ...], size: str, sums: dict[str, str], archives: dict[str, str] | None = None
) -> Published:
    dev = "dev_matched.tsv" if name == "mnli" else "dev.tsv"
    places = tuple(f"{home}{below}" for home in ("", "glue_data/", "GLUE/", "glue/") for below in folders)
    return Published(
        name,
        (*places, "."),
        ("train.tsv", dev),
        f"{folders[0]}/train.tsv and {folders[0]}/{dev} in GLUE's form",
        _GLUE_PAGE,
        size,
        lambda place, labels, _: glue.read_glue(place, labels, task=name),
        sums,
        archives or {},
        glue.left_out,
    )


def _speech(version: str, size: str, sha256: str) -> Published:
    folder_name = f"speech_commands_v{version}"
    return Published(
        f"speech-commands-v{version}",
        (folder_name, f"SpeechCommands/{folder_name}", f"speech-commands-v{version}"),
        tuple(speech.LISTS),
        f"{folder_name}/ with the label folders, validation_list.txt and testing_list.txt, "
        f"as {folder_name}.tar.gz unpacks into it",
        _SPEECH_PAGE,
        size,
        lambda place, labels, _: speech.read_speech(place, labels),
        archives={f"{folder_name}.tar.gz": sha256},
        left_out=speech.left_out,
    )


_ENTRIES = (
    Published(
        "cifar-10",
        ("cifar-10-batches-py", "cifar-10-batches-bin", "cifar-10", "cifar-10/cifar-10-batches-py", "."),
        ("data_batch_1", "data_batch_1.bin", "test_batch", "test_batch.bin"),
        "cifar-10-batches-py/ or cifar-10-batches-bin/, as the archive unpacks",
        _CIFAR_PAGE,
        "163 MB",
        _read_cifar,
        {
            "data_batch_1": "c99cafc152244af753f735de768cd75f",
            "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
            "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
            "data_batch_4": "634d18415352ddfa80567beed471001a",
            "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
            "test_batch": "40351d587109b95175f43aff81a1287e",
            "batches.meta": "5ff9c542aee3614f3951f8cda6e48888",
        },
        {
            "cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a",
            "cifar-10-binary.tar.gz": "c32a1d4ab5d03f1284b67883e8d87530",
        },
    ),
    Published(
        "cifar-100",
        ("cifar-100-python", "cifar-100-binary", "cifar-100", "cifar-100/cifar-100-python", "."),
        ("meta", "fine_label_names.txt"),
        "cifar-100-python/ or cifar-100-binary/, as the archive unpacks",
        _CIFAR_PAGE,
        "161 MB",
        _read_cifar,
        {
            "train": "16019d7e3df5f24257cddd939b257f8d",
            "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
            "meta": "7973b15100ade9c7d40fb424638fde48",
            "train.bin": "6172c7755cfe09b2fe270c85cebc1b15",
            "test.bin": "4499cfba6c016c1be1438163640a0898",
        },
        {
            "cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85",
            "cifar-100-binary.tar.gz": "03b5dce01913d631647c71ecec9e9cb8",
        },
    ),
    Published(
        "imagenet",
        ("imagenet", "ILSVRC2012", "ImageNet", "."),
        ("train", "val"),
        "imagenet/train/n01440764/*.JPEG and imagenet/val/n01440764/*.JPEG, a folder for each class in both",
        "https://www.image-net.org/download.php",
        "138 GB and 6.3 GB",
        folder.read_folder,
        archives={
            "ILSVRC2012_img_train.tar": "1d675b47d978889d74fa0da5fadfb00e",
            "ILSVRC2012_img_val.tar": "29b22e2961454d5413ddabcf34fc5622",
        },
    ),
    _glue(
        "sst-2",
        ("SST-2", "sst-2", "SST2", "sst2"),
        "7 MB",
        {
            "train.tsv": "da409a0a939379ed32a470bc0f7fe99a",
            "dev.tsv": "268856b487b2a31a28c0a93daaff7288",
            "test.tsv": "3230e4efec76488b87877a56ae49675a",
        },
        {"SST-2.zip": "9f81648d4199384278b86e315dac217c"},
    ),
    _glue(
        "mrpc",
        ("MRPC", "mrpc"),
        "1 MB",
        {
            "train.tsv": "dc2dac669a113866a6480a0b10cd50bf",
            "dev.tsv": "185958e46ba556b38c6a7cc63f3a2135",
            "test.tsv": "4825dab4b4832f81455719660b608de5",
        },
    ),
    _glue(
        "qqp",
        ("QQP", "qqp"),
        "60 MB",
        {
            "train.tsv": "e003db73d277d38bbd83a2ef15beb442",
            "dev.tsv": "cff6a448d1580132367c22fc449ec214",
            "test.tsv": "73de726db186b1b08f071364b2bb96d0",
        },
        {"QQP.zip": "884bf26e39c783d757acc510a2a516ef"},
    ),
    _glue(
        "mnli",
        ("MNLI", "mnli"),
        "313 MB",
        {
            "train.tsv": "220192295e23b6705f3545168272c740",
            "dev_matched.tsv": "c3fa2817007f4cdf1a03663611a8ad23",
        },
        {"MNLI.zip": "e343b4bdf53f927436d0792203b9b9ff"},
    ),
    _glue(
        "qnli",
        ("QNLI", "qnli"),
        "11 MB",
        {
            "train.tsv": "5e6063f407b08d1f7c7074d049ace94a",
            "dev.tsv": "1e81e211959605f144ba6c0ad7dc948b",
            "test.tsv": "f2a29f83f3fe1a9c049777822b7fa8b0",
        },
        {"QNLIv2.zip": "b4efd6554440de1712e9b54e14760e82"},
    ),
    _glue(
        "rte",
        ("RTE", "rte"),
        "1 MB",
        {
            "train.tsv": "d2844f558d111a16503144bb37a8165f",
            "dev.tsv": "973cb4178d4534cf745a01c309d4a66c",
            "test.tsv": "6041008f3f3e48704f57ce1b88ad2e74",
        },
        {"RTE.zip": "bef554d0cafd4ab6743488101c638539"},
    ),
    _glue(
        "cola",
        ("CoLA", "cola"),
        "0.4 MB",
        {
            "train.tsv": "c79d4693b8681800338aa044bf9e797b",
            "dev.tsv": "c5475ccefc9e7ca0917294b8bbda783c",
            "test.tsv": "d8721b7dedda0dcca73cebb2a9f4259f",
        },
        {"CoLA.zip": "b178a7c2f397b0433c39c7caf50a3543"},
    ),
    Published(
        "squad-v1.1",
        ("squad-v1.1", "SQuAD", "squad", "."),
        ("train-v1.1.json", "dev-v1.1.json"),
        "squad-v1.1/train-v1.1.json and squad-v1.1/dev-v1.1.json",
        "https://rajpurkar.github.io/SQuAD-explorer/",
        "30 MB and 5 MB",
        lambda place, _labels, _classes: squad.read_squad(place),
        {
            "train-v1.1.json": "981b29407e0affa3b1b156f72073b945",
            "dev-v1.1.json": "3e85deb501d4e538b6bc56f786231552",
        },
    ),
    _speech("0.01", "1.4 GB", "743935421bb51cccdb6bdd152e04c5c70274e935c82119ad7faeec31780d811d"),
    _speech("0.02", "2.3 GB", "af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"),
)
PUBLISHED: dict[str, Published] = {entry.name: entry for entry in _ENTRIES}
