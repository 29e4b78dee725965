import os
import sys

import numpy as np
import pytest
import torch

from paretrim.data.load import classes_of, load, shape_of
from paretrim.data.spec import DataSpec
from paretrim.errors import DataUnavailable, MissingDependency

Image = pytest.importorskip("PIL.Image")


def picture(path, *, size=(10, 8), color=(200, 30, 60), **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, color).save(path, **options)


@pytest.fixture
def folder(tmp_path):
    """Two classes, three training images and one test image each."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(3):
            picture(tmp_path / "train" / name / f"{number}.png", color=(100 * label, 10 * number, 7))
        picture(tmp_path / "test" / name / "0.png")
    return tmp_path


def read(folder, size=8):
    return load(DataSpec(f"imagefolder:{folder}", image_size=size))


def test_folders_become_classes(folder):
    data = read(folder)
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.train.images[4].unique(dim=1).flatten().unique().tolist() == [7, 10, 100]
    assert (data.train.sample_shape, len(data.test)) == ((3, 8, 8), 2)
    assert (data.augmentation.crop_padding, data.augmentation.flip, data.broken) == (1, True, ())
    assert data.mean == (0.485, 0.456, 0.406)


def test_the_centre_is_cut_out_of_a_larger_image_as_training_scripts_do(folder):
    noise = np.random.default_rng(0).integers(0, 256, (30, 45, 3), np.uint8)
    Image.fromarray(noise).save(folder / "test" / "cat" / "0.png")
    spec = DataSpec(f"imagefolder:{folder}", image_size=8, resize=11)
    data = load(spec)
    assert (shape_of(spec), classes_of(spec)) == (data.test.sample_shape, None)
    assert data.resize == 11
    whole = Image.fromarray(noise).resize((16, 11), Image.Resampling.BILINEAR)  # 45 * 11 / 30 = 16.5
    np.testing.assert_array_equal(data.test.images[0].permute(1, 2, 0), np.asarray(whole)[2:10, 4:12])
    assert read(folder).resize == 8
    np.testing.assert_array_equal(
        load(DataSpec(f"imagefolder:{folder}", image_size=8, resize=8)).test.images, read(folder).test.images
    )


def test_default_size_is_224(folder):
    assert load(DataSpec(f"imagefolder:{folder}")).train.sample_shape == (3, 224, 224)


def test_squares_of_one_size_keep_it(folder):
    for path in folder.rglob("*.png"):
        picture(path, size=(12, 12))
    whole = DataSpec(f"imagefolder:{folder}")
    assert load(whole).train.sample_shape == (3, 12, 12)
    picture(folder / "train" / "cat" / "0.png", size=(13, 13))
    assert load(whole).train.sample_shape == (3, 224, 224)
    for path in folder.rglob("*.png"):
        picture(path, size=(225, 225))
    assert load(whole).train.sample_shape == (3, 224, 224)


@pytest.mark.parametrize("name", [b"caf\xe9", b"a\nb", b"\x1b[2J", "a\u202eb".encode()])
def test_class_folders_whose_names_do_not_print_are_refused(folder, name):
    picture(folder / "train" / os.fsdecode(name) / "0.png")
    with pytest.raises(
        DataUnavailable, match=r"class folder '.*' in '.*train' has a name that is not UTF-8 or does not print; rename"
    ):
        read(folder)


def test_a_folder_that_cannot_be_looked_into_is_named(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.iterdir", refuse)
    with pytest.raises(DataUnavailable, match=r"'.*' cannot be read: '.*train': Permission denied; check its permissions"):
        read(folder)
    with pytest.raises(DataUnavailable, match="File name too long"):
        read("x" * 5000)


def test_val_serves_where_there_is_no_test(folder):
    (folder / "test").rename(folder / "val")
    assert len(read(folder).test) == 2


def test_short_side_is_resized_and_the_centre_kept(folder):
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 255
    Image.fromarray(wide).save(folder / "train" / "cat" / "0.png")
    assert (read(folder).train.images[0] == 255).all()


def test_other_modes_nested_folders_and_other_files(folder):
    Image.new("L", (8, 8), 77).save(folder / "train" / "cat" / "gray.png")
    palette = Image.new("P", (8, 8), 0)
    palette.info["transparency"] = bytes([0, 255])
    palette.save(folder / "train" / "cat" / "palette.png", transparency=bytes([0, 255]))
    picture(folder / "train" / "cat" / "deeper" / "x.JPG")
    (folder / "train" / "cat" / "notes.txt").write_text("not an image")
    (folder / "train" / ".cache").mkdir()
    data = read(folder)
    assert len(data.train) == 9
    assert (data.train.images == 77).flatten(1).all(1).any()


def test_sixteen_bits_keep_their_brightness(folder):
    deep = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(deep).save(folder / "train" / "cat" / "0.png")
    Image.fromarray(deep).save(folder / "train" / "cat" / "1.png", exif=exif)
    data = read(folder)
    expected = torch.from_numpy((deep >> 8).astype(np.uint8))
    assert (data.train.images[0] == expected).all()
    assert (data.train.images[1] == expected.rot90(2)).all()


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_pixels_of_unknown_range_are_refused(folder, kind):
    Image.fromarray(np.linspace(0, 1, 64).reshape(8, 8).astype(kind)).save(folder / "train" / "cat" / "deep.tif")
    with pytest.raises(DataUnavailable, match=r"train/cat/deep\.tif: its pixels have Pillow's mode [IF],.*; fix or remove them"):
        read(folder)


def test_pictures_are_turned_upright(folder):
    left_white = np.zeros((8, 8, 3), np.uint8)
    left_white[:, :4] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(left_white).save(folder / "train" / "cat" / "0.png", exif=exif)
    image = read(folder).train.images[0]
    assert (image[:, :, 4:] == 255).all()
    assert (image[:, :, :4] == 0).all()


def test_few_broken_images_are_left_out_and_named(folder):
    for number in range(200):
        picture(folder / "train" / "dog" / f"more{number}.png")
    (folder / "train" / "dog" / "more7.png").write_bytes(b"")
    (folder / "train" / "dog" / "more8.png").write_bytes((folder / "train" / "dog" / "1.png").read_bytes()[:50])
    data = read(folder)
    assert (len(data.train), torch.bincount(data.train.labels).tolist()) == (204, [3, 201])
    assert [line.partition(":")[0] for line in data.broken] == ["train/dog/more7.png", "train/dog/more8.png"]


def test_many_broken_images_are_an_error(folder):
    (folder / "train" / "dog" / "1.png").write_bytes(b"")
    with pytest.raises(
        DataUnavailable, match=r"1 of 6 images cannot be read, at most 1 % may: train/dog/1\.png: it is empty; fix"
    ):
        read(folder)


def test_long_lists_of_broken_images_are_cut(folder):
    for number in range(9):
        path = folder / "train" / "dog" / f"broken{number}.jpg"
        path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataUnavailable, match=r"9 of 15 images cannot be read.*; and 4 more"):
        read(folder)


def test_gigantic_picture_is_broken_not_fatal(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataUnavailable, match="decompression bomb"):
        read(folder)


@pytest.mark.parametrize("missing", ["train", "test"])
def test_missing_folder(folder, missing):
    (folder / missing).rename(folder / "elsewhere")
    name = {"train": "'train'", "test": "'test' or 'val'"}[missing]
    with pytest.raises(DataUnavailable, match=rf"has no folder {name}; it needs train/CLASS/ and test/CLASS/"):
        read(folder)


def test_missing_data_folder(tmp_path):
    with pytest.raises(DataUnavailable, match=r"there is no folder '.*none'; give one that holds train/CLASS/"):
        read(tmp_path / "none")


def test_empty_class(folder):
    for path in (folder / "train" / "dog").iterdir():
        path.unlink()
    with pytest.raises(
        DataUnavailable, match=r"class folder '.*train/dog' has no images \(\.avif, \.bmp, .*\); add some or remove it"
    ):
        read(folder)


def test_one_class(tmp_path):
    picture(tmp_path / "train" / "cat" / "0.png")
    picture(tmp_path / "test" / "cat" / "0.png")
    with pytest.raises(DataUnavailable, match=r"train' has 1 class folders; classification needs at least 2"):
        read(tmp_path)


def test_classes_must_agree(folder):
    picture(folder / "test" / "fish" / "0.png")
    with pytest.raises(DataUnavailable, match="train and test have different classes: fish; every class needs both folders"):
        read(folder)


def test_more_than_memory_holds(folder):
    with pytest.raises(
        DataUnavailable, match=r"8 images of 2000000x2000000 need 192000\.0 GB of memory, .*choose a smaller image_size"
    ):
        read(folder, size=2_000_000)


def test_pillow_is_asked_for(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingDependency, match=r"needs Pillow; install it with: pip install 'paretrim\[images\]'"):
        read(folder)


def test_a_strip_that_would_fill_the_memory_is_broken(folder):
    Image.new("1", (300_000, 1)).save(folder / "train" / "cat" / "0.png")
    with pytest.raises(
        DataUnavailable, match=r"0\.png: it is 300000x1, and 76800000x256 with the short side resized to 256: more"
    ):
        load(DataSpec(f"imagefolder:{folder}", image_size=224, resize=256))
    assert len(read(folder).train) == 6


@pytest.mark.filterwarnings("error")
def test_a_large_photograph_is_read_without_a_warning(folder, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 70)
    assert len(read(folder).train) == 6


def test_a_picture_that_would_start_a_program_is_not_opened(folder):
    """Pillow hands PostScript to Ghostscript, whatever the file is called."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n"
    (folder / "train" / "cat" / "0.png").write_bytes(script)
    with pytest.raises(DataUnavailable, match=r"train/cat/0\.png: it is no picture of a known format"):
        read(folder)


@pytest.mark.parametrize("kind", ["BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP"])
def test_a_picture_is_known_by_its_content(folder, kind):
    Image.new("RGB", (8, 8), (255, 255, 255)).save(folder / "train" / "cat" / "0.png", format=kind)
    assert int(read(folder).train.images[0].min()) > 250


def test_hidden_files_are_no_images(folder):
    """macOS puts one beside every image that it copies to another disk or into an archive."""
    for name in ("._0.png", ".hidden.png", ".thumbnails/0.png"):
        path = folder / "train" / "cat" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\0\5\x16\7")
    assert len(read(folder).train) == 6


def test_a_link_to_nothing_is_an_image_that_is_missing(folder):
    for name, target in (("7.png", "/nowhere/7.png"), ("8.png", "8.png")):
        (folder / "train" / "cat" / name).symlink_to(target)
    with pytest.raises(
        DataUnavailable,
        match=r"2 of 8 images .*: train/cat/7\.png: it is a link to nothing \('/nowhere/7\.png'\); train/cat/8\.png: it is a l",
    ):
        read(folder)


def test_links_are_followed_once(folder):
    (folder / "train" / "cat").rename(folder / "cats")
    (folder / "train" / "cat").symlink_to(folder / "cats")
    (folder / "train" / "dog" / "circle").symlink_to(folder / "train")
    assert len(read(folder).train) == 6


KINDS = {".JPG": "JPEG", ".jfif": "JPEG", ".jpe": "JPEG", ".Png": "PNG", ".dib": "DIB"}


@pytest.mark.parametrize("ending", KINDS)
def test_other_endings_of_known_formats(folder, ending):
    for path in list(folder.rglob("*.png")):
        Image.open(path).convert("RGB").save(path.with_suffix(ending), format=KINDS[ending])
        path.unlink()
    assert len(read(folder).train) == 6
