"""Small caches in the layouts in which miniImageNet and tieredImageNet are passed around, and pickles as Python 2 wrote them."""

import io
import pickle
import struct

import numpy as np
from PIL import Image

NAMES = ("train", "val", "test")


def python2(value) -> bytes:
    """`value` as Python 2 and NumPy 1 pickled it in protocol 2: text and arrays are byte strings."""
    return b"\x80\x02" + _python2(value) + b"."


def _python2(value) -> bytes:
    if isinstance(value, dict):
        return b"}(" + b"".join(_python2(part) for pair in value.items() for part in pair) + b"u"
    if isinstance(value, list):
        return b"](" + b"".join(map(_python2, value)) + b"e"
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_python2, value)) + b"t"
    if isinstance(value, str | bytes):
        text = value.encode("latin1") if isinstance(value, str) else value
        return (b"U" + bytes([len(text)]) if len(text) < 256 else b"T" + struct.pack("<i", len(text))) + text
    if isinstance(value, int):
        return b"J" + struct.pack("<i", value)
    start = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n" + _python2((0,)) + _python2("b")
    kind = b"cnumpy\ndtype\n" + _python2((value.dtype.str[1:], 0, 1)) + b"R("
    kind += (
        _python2(3)
        + _python2(value.dtype.str[0])
        + b"NNN"
        + _python2(-1)
        + _python2(-1)
        + _python2(0)
        + b"tb"
    )
    return (
        start
        + b"\x87R("
        + _python2(1)
        + _python2(value.shape)
        + kind
        + b"\x89"
        + _python2(value.tobytes())
        + b"tb"
    )


def python3(protocol: int):
    """A function that pickles in a protocol."""
    return lambda value: pickle.dumps(value, protocol=protocol)


def pixels(count, seed, size=6):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def png(image) -> np.ndarray:
    """An image (H, W, 3), RGB, as the PNG file that OpenCV makes of it."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    return np.frombuffer(file.getvalue(), np.uint8)


def mini_imagenet(folder, write, size=6):
    """Three caches, rows of a class not in sequence; gives the images of every class by name."""
    folder.mkdir()
    expected = {}
    for i, name in enumerate(NAMES):
        images = pixels(6, i, size)
        members = {f"n0{i}9": [5, 0, 2], f"n0{i}1": [1, 3, 4]}
        (folder / f"mini-imagenet-cache-{name}.pkl").write_bytes(
            write({"image_data": images, "class_dict": members})
        )
        expected |= {key: images[sorted(rows)] for key, rows in sorted(members.items())}
    return expected


def tiered_imagenet(folder, write, form="png", key="label_specific", size=6):
    """Three splits of two classes with one name, as two cranes of ImageNet; gives the images of every split in RGB."""
    folder.mkdir()
    expected = {}
    for i, name in enumerate(NAMES):
        images, labels = pixels(5, i, size), np.array([0, 0, 0, 1, 1], np.int32)
        if form == "png":
            (folder / f"{name}_images_png.pkl").write_bytes(write([png(image) for image in images]))
        else:
            np.savez(folder / f"{name}_images.npz", images=images[..., ::-1])
        table = {
            "label_specific": labels, "label_specific_str": ["crane", "crane"],
            "label_general": np.zeros(5, np.int32), "label_general_str": ["bird, or machine"],
        } if key == "label_specific" else {"labels": [int(7 * i + n) for n in labels]}  # fmt: skip
        (folder / f"{name}_labels.pkl").write_bytes(write(table))
        expected[name] = images
    return expected
