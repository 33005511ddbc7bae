"""One image open for reading boxes of pixels."""

import struct
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from survey_scan.imaging import native
from survey_scan.imaging.compressed import read_rows
from survey_scan.imaging.cost import FILE_CODECS, Indices, Mode
from survey_scan.imaging.fits_header import ImageHdu, decompressed, reading, unreadable
from survey_scan.imaging.remote import local
from survey_scan.imaging.windows import Windows, cut_windows, off_image

#: A compressed HDU up to this size is compared with its DATASUM even if only parts of it are wanted: reading it whole
#: is one request to a parallel file system. Larger ones are compared when they are read whole.
CHECKED_BYTES = 16 * 2**20


class FitsImage:
    """An image open for reading boxes; a context manager.

    Parameters
    ----------
    hdu : ImageHdu
        From :func:`survey_scan.imaging.fits_header.find_image`.
    mode : str
        How it is going to be read. ``sections`` takes the library that is fastest for small boxes; the pixels are the
        same.
    """

    def __init__(self, hdu: ImageHdu, mode: Mode):
        self.hdu = hdu
        self.mode = mode
        self._files = ExitStack()
        self._path = Path()

    def __enter__(self) -> Self:
        """Fetch a file that lies elsewhere, and compare the data with their DATASUM.

        Raises
        ------
        TileError
            UNREADABLE if they differ; MISSING if the file went away meanwhile.
        Unreachable
            If the file's server fails.
        """
        hdu = self.hdu
        whole = self.mode == "whole" or hdu.nbytes <= CHECKED_BYTES
        datasum = hdu.datasum if whole and hdu.layout.codec not in ("none", *FILE_CODECS) else None
        with ExitStack() as files, reading(hdu.path):
            self._path = files.enter_context(local(hdu.path))
            if datasum is not None and datasum_residue(self._path, hdu.offset, hdu.nbytes) != datasum % 0xFFFF:
                raise unreadable(hdu, f"is corrupt: its data do not have the DATASUM {datasum} of its header")
            self._files = files.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._files.close()

    def read(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[Any]:
        """Pixels ``[y0:y1, x0:x1]``, a box inside the image.

        Returns
        -------
        ndarray, shape (y1 - y0, x1 - x0)
            Native byte order, of the dtype the header gives after BSCALE, BZERO and BLANK; undefined pixels of
            floating-point images are NaN.

        Raises
        ------
        TileError
            UNREADABLE if the data cannot be decoded.
        """
        hdu = self.hdu
        with _decoding(hdu):
            decoded = self._rice.read(y0, y1, x0, x1) if self._rice else None
            if decoded is not None:
                return decoded
            pixels: Any
            if hdu.layout.codec in ("none", *FILE_CODECS) or (self.mode == "sections" and hdu.plain):
                pixels = self._pixels[y0:y1, x0:x1]
            else:
                pixels = read_rows(hdu, self._path, y0, y1)[:, x0:x1]
            return np.asarray(pixels, dtype=pixels.dtype.newbyteorder("="))

    def cut(
        self, windows: Windows, targets: Indices, out: NDArray[np.float32], rows: Indices, nodata: float | None
    ) -> Indices | None:
        """Copy windows one by one, without a box around them, where that is the fastest way whatever their number.

        Parameters
        ----------
        windows, targets
            Windows, and which of them to copy, in the order of their rows.
        out : ndarray of float32, shape (n, size, size)
            Where to; may have any strides. NaN where a window runs off the image.
        rows : ndarray of int64, shape (k,)
            Row of ``out`` of each.
        nodata : float or None
            A value that is no data.

        Returns
        -------
        ndarray of int64, shape (k,)
            How many pixels of each are not finite, ``nodata``, or off the image; None if pixels of this image cannot be
            had in this way.

        Raises
        ------
        TileError
            UNREADABLE if the data cannot be decoded.
        """
        hdu, plain = self.hdu, self.hdu.layout.codec == "none" and self.hdu.plain
        y0, x0, partial = windows.y0[targets], windows.x0[targets], ~windows.inside[targets]
        with _decoding(hdu):
            if not plain and self._rice is None:
                return None
            out[rows[partial]] = np.nan
            if self._rice is not None:
                bad = self._rice.cut(y0, x0, out, rows, nodata)
            else:
                bad = native.cut_plain(self._pixels, y0, x0, out, rows, nodata)
            if bad is not None:
                return bad + off_image(y0, x0, out.shape[1], hdu.layout.shape)
            return cut_windows(self._pixels, windows, targets, out, rows, nodata) if plain else None

    @cached_property
    def _rice(self) -> native.Rice | None:
        return native.opened(self.hdu, self._path)

    @cached_property
    def _pixels(self) -> Any:
        """What can be sliced for pixels, one call after the other."""
        hdu, path = self.hdu, self._path
        if hdu.layout.codec == "none" and hdu.plain:
            kind = "f" if hdu.bitpix < 0 else "u" if hdu.bitpix == 8 else "i"
            dtype = np.dtype(f">{kind}{abs(hdu.bitpix) // 8}")
            return np.memmap(path, dtype=dtype, mode="r", offset=hdu.offset, shape=hdu.layout.shape)
        if hdu.layout.codec not in ("none", *FILE_CODECS):
            import fitsio

            return self._files.enter_context(fitsio.FITS(str(path)))[hdu.number]
        from astropy.io import fits

        if hdu.layout.codec in FILE_CODECS:
            with decompressed(path, hdu.layout.codec) as file:
                data = file.read()  # to the end, where the checksum is
            return self._files.enter_context(fits.HDUList.fromstring(data))[hdu.number].data
        # not mapped: astropy cannot apply BSCALE, BZERO and BLANK to what is
        return self._files.enter_context(fits.open(path, memmap=False))[hdu.number].section


@contextmanager
def _decoding(hdu: ImageHdu) -> Iterator[None]:
    """Turn what astropy and fitsio raise on broken data into a TileError."""
    from astropy.io import fits
    from astropy.io.fits.hdu.compressed._compression import CfitsioException
    from astropy.utils.exceptions import AstropyUserWarning

    broken = (ValueError, TypeError, LookupError, OverflowError, struct.error, fits.VerifyError)
    with reading(hdu.path), warnings.catch_warnings():
        # deviations from the standard that astropy mends, such as BLANK in an image of floats
        warnings.simplefilter("ignore", AstropyUserWarning)
        try:
            yield
        except (*broken, CfitsioException) as error:
            raise unreadable(hdu, f"is corrupt: its pixels cannot be decoded ({error})") from error
        except OSError as error:
            if error.errno is None:  # fitsio, not the file system
                raise unreadable(hdu, f"is corrupt: its pixels cannot be decoded ({error})") from error
            raise


def datasum_residue(path: Path, offset: int, nbytes: int) -> int:
    """DATASUM of some bytes of a file, modulo 65535.

    The FITS checksum is the sum of big-endian 32-bit words modulo 2**32 - 1, of which 65535 is a divisor. Modulo
    65535 the sum of 16-bit words is the same number, and swapping the bytes of each word multiplies it by 256: so
    native 64-bit words can be summed, several times faster. A change of one byte never goes unseen.

    Parameters
    ----------
    path : Path
        The file.
    offset, nbytes : int
        Where the data are; ``offset`` is a multiple of 8.
    """
    data = np.memmap(path, dtype=np.uint8, mode="r", offset=offset, shape=(nbytes,))
    whole = nbytes // 8 * 8
    words = data[:whole].view("<u8")
    rest = np.zeros(8, np.uint8)
    rest[: nbytes - whole] = data[whole:]
    total = int(rest.view("<u8")[0])
    for start in range(0, len(words), 1 << 15):  # a block stays in the cache for its two passes
        block = words[start : start + (1 << 15)]
        high = int(np.add.reduce(block >> np.uint64(32)))
        total += high + (int(np.add.reduce(block)) - (high << 32)) % 2**64
    return total * 256 % 0xFFFF
