"""How files and values are spoiled: one place of a JSON file replaced, a stretch of bytes cut out, numbers that are no numbers."""

import json
import struct
from copy import deepcopy

from hypothesis import strategies as st

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**7, 10**9, 10**30, -1, 0])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["", "..", "/", "\0", "../../x", "hf-hub:a/b", "os.system", "weightgen.cli.main"])
)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
) | st.just([8] * 100_000)


@st.composite
def spoiled(draw, good):
    """Valid JSON with one place, anywhere, taken away or replaced by anything."""
    content = deepcopy(good)
    parent, key, node = None, None, content
    while isinstance(node, dict | list) and node and (parent is None or draw(st.booleans())):
        parent = node
        key = draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node = node[key]
    if parent is None:
        return draw(anything)
    if draw(st.integers(0, 3)):
        parent[key] = draw(anything)
    else:
        del parent[key]
    return content


@st.composite
def damaged(draw, good: bytes):
    """Bytes with a stretch cut out and noise put in its place, or single bits flipped."""
    if good and draw(st.booleans()):
        found = bytearray(good)
        for place in draw(st.lists(st.integers(0, 8 * len(good) - 1), min_size=1, max_size=3)):
            found[place // 8] ^= 1 << place % 8
        return bytes(found)
    start = draw(st.integers(0, len(good)))
    end = draw(st.integers(start, min(len(good), start + 40)) | st.just(len(good)))
    return good[:start] + draw(st.binary(max_size=8)) + good[end:]


@st.composite
def spoiled_tensors(draw, good: bytes):
    """A safetensors file whose header, metadata or numbers are spoiled."""
    if draw(st.booleans()):
        return draw(damaged(good))
    (length,) = struct.unpack("<Q", good[:8])
    header, body = json.loads(good[8 : 8 + length]), bytearray(good[8 + length :])
    if draw(st.booleans()) and len(body) >= 4:  # NaN or infinity, or a huge number
        place = draw(st.integers(0, len(body) // 4 - 1)) * 4
        body[place : place + 4] = struct.pack("<f", draw(st.sampled_from([float("nan"), float("inf"), 3e38])))
    elif "__metadata__" in header and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(header["__metadata__"])))
        text = header["__metadata__"][name]
        try:
            header["__metadata__"][name] = json.dumps(draw(spoiled(json.loads(text))))
        except ValueError:
            header["__metadata__"][name] = draw(st.text(max_size=20))
    else:
        header = draw(spoiled(header))
    packed = json.dumps(header).encode()
    return struct.pack("<Q", len(packed)) + packed + bytes(body)


@st.composite
def spoiled_file(draw, files):
    """One of some files by name, and its bytes after damage of a kind that suits it.

    Args:
        draw: of hypothesis.
        files: bytes by name.
    """
    name = draw(st.sampled_from(sorted(files)))
    good = files[name]
    if name.endswith(".json") and draw(st.integers(0, 3)):
        return name, json.dumps(draw(spoiled(json.loads(good)))).encode(errors="replace")
    if name.endswith(".safetensors"):
        return name, draw(spoiled_tensors(good))
    return name, draw(damaged(good))
