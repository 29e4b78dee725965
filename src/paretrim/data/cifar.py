"""CIFAR-10 and CIFAR-100 from their official binary files, found on disk or downloaded.

A record is one label byte (CIFAR-10) or two (CIFAR-100: coarse, fine) and 3072 pixel bytes, channels first. Every file is
checked by size and SHA-256, so that "cifar10" in a result means exactly the published images in the published order.

Source: A. Krizhevsky 2009, "Learning multiple layers of features from tiny images"; https://www.cs.toronto.edu/~kriz/cifar.html
"""

from __future__ import annotations

import hashlib
import os
import tarfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock

from paretrim.data.download import Progress, download, require_md5
from paretrim.data.types import Augmentation, Dataset, ImageSet, images_digest
from paretrim.errors import DataUnavailable
from paretrim.files import write_atomically

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class BinaryFile:
    """One file of records; ``sha256`` of its content."""

    name: str
    records: int
    sha256: str


@dataclass(frozen=True)
class BinaryLayout:
    """The files of one of the data sets and where it is published. The last of ``label_bytes`` is the label."""

    name: str
    folder: str
    url: str
    md5: str
    label_bytes: int
    classes: tuple[str, ...]
    train: tuple[BinaryFile, ...]
    test: BinaryFile
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def files(self) -> tuple[BinaryFile, ...]:
        """Training files in order, then the test file."""
        return (*self.train, self.test)

    @property
    def archive(self) -> str:
        """File name of the published archive."""
        return self.url.rpartition("/")[2]

    def size_bytes(self, file: BinaryFile) -> int:
        """Exact size of one of the files."""
        return file.records * (self.label_bytes + PIXELS)


CIFAR10 = BinaryLayout(
    name="cifar10",
    folder="cifar-10-batches-bin",
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    label_bytes=1,
    classes=("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
    train=(
        BinaryFile("data_batch_1.bin", 10_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
        BinaryFile("data_batch_2.bin", 10_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
        BinaryFile("data_batch_3.bin", 10_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
        BinaryFile("data_batch_4.bin", 10_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
        BinaryFile("data_batch_5.bin", 10_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ),
    test=BinaryFile("test_batch.bin", 10_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
)

CIFAR100_CLASSES = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish
forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle
mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
wolf woman worm
"""

CIFAR100 = BinaryLayout(
    name="cifar100",
    folder="cifar-100-binary",
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    label_bytes=2,
    classes=tuple(CIFAR100_CLASSES.split()),
    train=(BinaryFile("train.bin", 50_000, "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29"),),
    test=BinaryFile("test.bin", 10_000, "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a"),
    mean=(0.5071, 0.4865, 0.4409),
    std=(0.2673, 0.2564, 0.2762),
)

AUGMENTATION = Augmentation(crop_padding=4, flip=True)
"""He et al. 2016, "Deep residual learning for image recognition", section 4.2."""


def load_cifar(layout: BinaryLayout, places: Sequence[Path], *, progress: Progress | None = None) -> Dataset:
    """Read the data set from the first of ``places`` that has it; otherwise download it into the first.

    A place has it as the unpacked folder, as the files themselves or as the official archive.

    Raises:
        DataUnavailable: the files are missing and cannot be downloaded, or are not what was published.
    """
    folder = locate(layout, places, progress=progress)
    train = _joined([_read(layout, file, folder) for file in layout.train])
    test = _read(layout, layout.test, folder)
    digest = images_digest(layout.classes, train, test)
    return Dataset(layout.name, layout.classes, train, test, layout.mean, layout.std, AUGMENTATION, digest)


def locate(layout: BinaryLayout, places: Sequence[Path], *, progress: Progress | None = None) -> Path:
    """The folder that holds all files of ``layout``, unpacked or downloaded first if needed.

    Raises:
        DataUnavailable: the download fails, the archive is not the published one, or the place cannot be written.
    """
    for place in places:
        for folder in (place / layout.folder, place):
            if _complete(layout, folder):
                return folder
    place = next((place for place in places if (place / layout.archive).is_file()), places[0])
    try:
        place.mkdir(parents=True, exist_ok=True)
        # Several processes of a study may start at once: one fetches, the others wait and then find the files.
        with FileLock(place / f".{layout.archive}.lock"):
            if not _complete(layout, place / layout.folder):
                _fetch(layout, place, progress)
    except DataUnavailable as error:
        raise DataUnavailable(f"{_lacking(layout, places)}{error}") from error
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataUnavailable(
            f"{layout.name} cannot be unpacked in '{place}' ({reason}); name a folder that can be written"
        ) from error
    return place / layout.folder


def _lacking(layout: BinaryLayout, places: Sequence[Path]) -> str:
    """What the first folder that holds some of the files lacks, as the start of a sentence; empty if there is none."""
    for folder in (folder for place in places for folder in (place / layout.folder, place)):
        missing = [file.name for file in layout.files if not (folder / file.name).is_file()]
        if 0 < len(missing) < len(layout.files):
            return f"'{folder}' lacks {', '.join(missing)}; "
    return ""


def _complete(layout: BinaryLayout, folder: Path) -> bool:
    return all((folder / file.name).is_file() for file in layout.files)


def _fetch(layout: BinaryLayout, place: Path, progress: Progress | None) -> None:
    archive = place / layout.archive
    own = archive.is_file()
    if own:
        require_md5(archive, layout.md5)
    else:
        download(layout.url, archive, md5=layout.md5, progress=progress)
    _unpack(layout, archive, place / layout.folder)
    if not own:
        archive.unlink()


def _unpack(layout: BinaryLayout, archive: Path, folder: Path) -> None:
    """Write the files of ``layout`` and nothing else: a member's path does not decide where a file goes."""
    wanted = {f"{layout.folder}/{file.name}": file for file in layout.files}
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for member in tar:
                file = wanted.get(member.name)
                content = tar.extractfile(member) if file and member.isreg() else None
                if file is None or content is None:
                    continue
                if member.size != layout.size_bytes(file):
                    raise DataUnavailable(
                        f"'{archive}': '{member.name}' has {member.size:,} bytes, expected {layout.size_bytes(file):,}; "
                        "delete it and run again to download it"
                    )
                write_atomically(folder / file.name, content.read())
                del wanted[member.name]
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataUnavailable(f"'{archive}' cannot be unpacked ({error}); delete it and run again to download it") from error
    if wanted:
        raise DataUnavailable(f"'{archive}' lacks {', '.join(sorted(wanted))}; delete it and run again to download it")


def _read(layout: BinaryLayout, file: BinaryFile, folder: Path) -> ImageSet:
    path = folder / file.name
    size, expected = path.stat().st_size, layout.size_bytes(file)
    again = "delete it and run again to download it again"
    if size != expected:
        raise DataUnavailable(f"'{path}' has {size:,} bytes, expected {expected:,} ({file.records:,} records); {again}")
    content = path.read_bytes()
    records = np.frombuffer(content, np.uint8).reshape(file.records, layout.label_bytes + PIXELS)
    labels = records[:, layout.label_bytes - 1]
    worst = int(labels.argmax())
    if labels[worst] >= len(layout.classes):
        raise DataUnavailable(
            f"'{path}': record {worst} has label {labels[worst]}, allowed are 0..{len(layout.classes) - 1}; {again}"
        )
    if hashlib.sha256(content).hexdigest() != file.sha256:
        raise DataUnavailable(
            f"'{path}' has the right size but not the published content (SHA-256 differs): it is damaged or altered; {again}, "
            "or give images of your own as 'imagefolder:DIR'"
        )
    images = np.ascontiguousarray(records[:, layout.label_bytes :]).reshape(-1, 3, SIDE, SIDE)
    return ImageSet(torch.from_numpy(images), torch.from_numpy(labels.astype(np.int64)))


def _joined(parts: list[ImageSet]) -> ImageSet:
    return ImageSet(torch.cat([part.images for part in parts]), torch.cat([part.labels for part in parts]))


def default_places(folder: str | None) -> tuple[Path, ...]:
    """Where to look: ``folder``, $PARETRIM_DATA, the user's cache; the first is where a download goes.

    Raises:
        DataUnavailable: ``folder`` is given and is not there.
    """
    if folder is not None and not Path(folder).is_dir():
        raise DataUnavailable(f"there is no data folder '{folder}'; correct the path, or make the folder to download into it")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "paretrim"
    named = (folder, os.environ.get("PARETRIM_DATA"))
    return (*(Path(name) for name in named if name), cache)
