"""One image in a FITS file, found and checked without reading its pixels.

Headers are walked here rather than by astropy because a scan opens a million files: this takes 0.3 ms instead of 3,
and it compares what each header promises with the size of the file, without which the kept half of a truncated
``.fz`` reads as if nothing were wrong.
"""

import bz2
import errno
import gzip
import math
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from survey_scan.errors import TileError
from survey_scan.imaging.cost import FILE_CODECS, Layout
from survey_scan.imaging.remote import File
from survey_scan.imaging.wcs import LOOKUP_TABLES, needs_tables, wcs_cards, with_tables
from survey_scan.schema import Status

BLOCK = 2880
CARD = 80
_STRING = re.compile(r"\s*'((?:[^']|'')*)'")
_PLANE = re.compile(r"(?:HIERARCH +)?MP_(\w+) *= *(\d+)")
_MISSING = (errno.ENOENT, errno.ENOTDIR)
_MAGIC = dict(zip(FILE_CODECS, (b"\x1f\x8b", b"BZh"), strict=True))
_REFUSED = (errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENAMETOOLONG, errno.ELOOP)


@dataclass(frozen=True)
class ImageHdu:
    """Where an image stands and what its header says.

    Attributes
    ----------
    path : Path or RemoteFile
        The file.
    number : int
        HDU number; 0 is the primary.
    layout : Layout
        Shape and compression.
    cards : str
        The header's cards that make up the WCS, and the lookup tables it names.
    bitpix : int
        Of the image, after decompression.
    plain : bool
        Whether stored values are pixel values: no BSCALE, BZERO or BLANK takes effect.
    offset, nbytes : int
        First byte of the data in the file and how many there are, without the padding.
    datasum : int or None
        DATASUM of the HDU as stored.
    text : str
        The whole header, 80 characters a card.
    values, primary : dict
        Its values by keyword, and those of the file's primary HDU.
    """

    path: File
    number: int
    layout: Layout
    cards: str
    bitpix: int
    plain: bool
    offset: int
    nbytes: int
    datasum: int | None
    text: str = field(repr=False)
    values: dict[str, Any] = field(repr=False)
    primary: dict[str, Any] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.path}[{self.number}]"


class _Hdu(NamedTuple):
    number: int
    offset: int
    nbytes: int
    end: int
    text: str
    values: dict[str, Any]


def find_image(path: File, hdu: int | str) -> ImageHdu:
    """Find an image by the number or name of its HDU and check that it is there whole.

    Parameters
    ----------
    path : Path or RemoteFile
        ``.fits``, ``.fits.fz``, ``.fits.gz`` or ``.fits.bz2``; told by its bytes, not by its name.
    hdu : int or str
        Number, or EXTNAME in any case.

    Raises
    ------
    TileError
        MISSING if there is no such file; UNREADABLE if it is not FITS, ends too early, has no such HDU, or that HDU
        is no image of two dimensions.
    OSError, Unreachable
        If the file system, or the server, fails (as opposed to the file).
    """
    with reading(path), ExitStack() as opened:
        file: IO[bytes] = opened.enter_context(path.open("rb"))
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            raise unreadable(path, "is empty (0 bytes)")
        file.seek(0)
        start = file.read(3)
        zipped = next((codec for codec, magic in _MAGIC.items() if start.startswith(magic)), "")
        if zipped:
            file = opened.enter_context(decompressed(file, zipped))
        seen: list[_Hdu] = []
        for found in _walk(path, file, None if zipped else size):
            seen.append(found)
            if hdu == found.number or str(hdu).upper() == _name(found).upper():
                if _dimensions(found) == 2:
                    cards = wcs_cards(found.text)
                    if needs_tables(cards):
                        seen.extend(_walk(path, file, None if zipped else size, found))
                        cards = with_tables(cards, _lookup_tables(path, file, seen))
                    return _image(path, found, zipped, cards, seen[0].values)
                seen.extend(_walk(path, file, None if zipped else size, found))
                raise unreadable(f"{path}[{found.number}]", f"is {_kind(found)}; an image is needed: {_images(seen)}")
    raise unreadable(path, f"has no HDU {hdu!r}; {_images(seen)}")


def mask_planes(hdu: ImageHdu) -> dict[str, int]:
    """Numbers of a mask's bits by the names its header gives them, as afw of the Rubin Observatory does: ``MP_SAT = 1``."""
    cards = (hdu.text[i : i + CARD] for i in range(0, len(hdu.text), CARD))
    return {found[1]: int(found[2]) for card in cards if (found := _PLANE.match(card))}


def decompressed(file: Path | IO[bytes], codec: str) -> IO[bytes]:
    """A file compressed as a whole by one of :data:`FILE_CODECS`, open for reading what it holds."""
    if not isinstance(file, Path):
        file.seek(0)
    return cast(IO[bytes], gzip.open(file) if codec == "gzip" else bz2.open(file))


def unreadable(where: object, why: str) -> TileError:
    """The error for a file, or an HDU, that is there but cannot be used."""
    return TileError(Status.UNREADABLE, f"{where} {why}")


@contextmanager
def reading(path: File) -> Iterator[None]:
    """Turn what a missing, forbidden or broken file (compressed as a whole) raises into a TileError.

    Failures of the file system itself (EIO, ESTALE, out of memory or of file handles) pass: they say nothing about
    the survey, and the partition is tried again.
    """
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise unreadable(path, f"is truncated or corrupt ({error})") from error
    except OSError as error:
        if error.errno is None:  # bzip2, not the file system
            raise unreadable(path, f"is truncated or corrupt ({error})") from error
        if error.errno in _MISSING:
            raise TileError(Status.MISSING, f"{path} does not exist") from error
        if error.errno in _REFUSED:
            raise unreadable(path, f"cannot be opened ({error.strerror})") from error
        raise


def _walk(path: File, stream: IO[bytes], size: int | None, after: _Hdu | None = None) -> Iterator[_Hdu]:
    """The HDUs of a file, headers only, each checked to be there whole if the size of the file is known."""
    number, start = (0, 0) if after is None else (after.number + 1, after.end)
    while True:
        stream.seek(start)
        text, ended = "", False
        while not ended:
            block = stream.read(BLOCK).decode("latin-1")
            if not text and not block.startswith("XTENSION" if number else "SIMPLE  "):
                if number == 0:
                    raise unreadable(path, "is not a FITS file (it does not begin with SIMPLE)")
                return
            if len(block) < BLOCK:
                raise unreadable(path, f"is truncated: it ends inside the header of HDU {number}")
            text += block
            ended = any(block[i : i + 8] == "END     " for i in range(0, BLOCK, CARD))
        values, offset = _values(text), start + len(text)
        try:
            nbytes = _data_bytes(values)
        except (KeyError, ValueError) as error:
            raise unreadable(f"{path}[{number}]", f"has a header that makes no sense ({error!r})") from error
        if size is not None and offset + nbytes > size:
            end = offset + nbytes
            raise unreadable(path, f"is truncated: HDU {number} should end at byte {end} but the file has {size}")
        start = offset + -(-nbytes // BLOCK) * BLOCK
        yield _Hdu(number, offset, nbytes, start, text, values)
        number += 1


def _lookup_tables(path: File, stream: IO[bytes], hdus: list[_Hdu]) -> str:
    """The HDUs that hold lookup tables of a WCS, header and data, as text."""
    text = ""
    for hdu in hdus:
        if _name(hdu).upper() in LOOKUP_TABLES:
            stream.seek(hdu.offset)
            data = stream.read(hdu.nbytes)
            if len(data) < hdu.nbytes:
                raise unreadable(path, f"is truncated: it ends inside the lookup table in HDU {hdu.number}")
            text += hdu.text + data.decode("latin-1") + "\0" * (-hdu.nbytes % BLOCK)
    return text


def _values(text: str) -> dict[str, Any]:
    """The values of a header by keyword; of a keyword given twice, the first."""
    values: dict[str, Any] = {}
    for i in range(0, len(text), CARD):
        if text[i + 8 : i + 10] == "= ":
            values.setdefault(text[i : i + 8].rstrip(), _value(text[i + 10 : i + CARD]))
    return values


def _value(field: str) -> str | bool | int | float:
    """The value of a card as string, bool or number; text that is none of these as it stands."""
    quoted = _STRING.match(field)
    if quoted:
        return quoted[1].replace("''", "'").rstrip()
    word = field.partition("/")[0].strip()
    if word in ("T", "F"):
        return word == "T"
    for kind in (int, float):
        try:
            return kind(word.replace("D", "E"))
        except ValueError:
            continue
    return word


def _name(hdu: _Hdu) -> str:
    """EXTNAME, else the name astropy gives."""
    name = hdu.values.get("EXTNAME")
    if name:
        return str(name)
    if hdu.number == 0:
        return "PRIMARY"
    return "COMPRESSED_IMAGE" if hdu.values.get("ZIMAGE") is True else ""


def _dimensions(hdu: _Hdu) -> int | None:
    """Dimensions of an image, 0 if it has no pixels; None for a table."""
    compressed = hdu.values.get("ZIMAGE") is True
    if not compressed and hdu.values.get("XTENSION", "IMAGE") != "IMAGE":
        return None
    return _integer(hdu.values, "ZNAXIS" if compressed else "NAXIS")


def _kind(hdu: _Hdu) -> str:
    dimensions = _dimensions(hdu)
    if dimensions is None:
        return "a table"
    return "empty" if dimensions == 0 else f"an array of {dimensions} dimensions"


def _images(hdus: list[_Hdu]) -> str:
    """Which of these are images, for messages."""
    names = [f"{hdu.number} ({_name(hdu)})".replace(" ()", "") for hdu in hdus if _dimensions(hdu) == 2]
    return f"its images of two dimensions are in HDU {', '.join(names)}" if names else "it holds none of two dimensions"


def _integer(values: dict[str, Any], keyword: str, default: int | None = None) -> int:
    """A count from a header; ValueError if it is none."""
    value = values[keyword] if default is None else values.get(keyword, default)
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{keyword} = {value!r}")
    return value


def _data_bytes(values: dict[str, Any]) -> int:
    """Bytes of data an HDU has by its header (FITS standard 4.0, equation 2)."""
    axes = [_integer(values, f"NAXIS{i}") for i in range(1, _integer(values, "NAXIS") + 1)]
    if not axes:
        return 0
    elements = _integer(values, "PCOUNT", 0) + math.prod(axes)
    return abs(int(values["BITPIX"])) // 8 * _integer(values, "GCOUNT", 1) * elements


def _image(path: File, hdu: _Hdu, zipped: str, cards: str, primary: dict[str, Any]) -> ImageHdu:
    values = hdu.values
    z = "Z" if values.get("ZIMAGE") is True else ""
    try:
        width, height = _integer(values, f"{z}NAXIS1"), _integer(values, f"{z}NAXIS2")
        tile = (_integer(values, "ZTILE2", 1), _integer(values, "ZTILE1", width)) if z else (1, width)
        bitpix = int(values[f"{z}BITPIX"])
    except (KeyError, ValueError) as error:
        raise unreadable(f"{path}[{hdu.number}]", f"has a header that makes no sense ({error!r})") from error
    if not (width and height and all(tile)):
        raise unreadable(f"{path}[{hdu.number}]", f"has no pixels ({width} x {height})")
    codec = zipped or (str(values.get("ZCMPTYPE", "")).replace("RICE_ONE", "RICE_1") if z else "none")
    blanks = any(keyword in values for keyword in ("BLANK", "ZBLANK"))
    datasum = str(values.get("DATASUM", "")).strip()
    return ImageHdu(
        path=path,
        number=hdu.number,
        layout=Layout(codec, (height, width), tile),
        cards=cards,
        bitpix=bitpix,
        plain=values.get("BSCALE", 1) == 1 and values.get("BZERO", 0) == 0 and (bitpix < 0 or not blanks),
        offset=hdu.offset,
        nbytes=hdu.nbytes,
        datasum=int(datasum) if datasum.isdigit() else None,
        text=hdu.text,
        values=values,
        primary=primary,
    )
