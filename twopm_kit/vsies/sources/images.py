"""Reads folders of pictures with one sub-folder for each class: a row of pixels and a label for each."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import MAX_COLUMNS, DataSource, Tick, step, write_up
from twopm_kit.vsies.sources.files import Place
from twopm_kit.vsies.sources.frames import number_names

__all__ = ["SUFFIXES", "ImageFolder"]

#: Endings of pictures, and the formats that Pillow may try on them.
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".pgm", ".ppm")
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP", "PPM")
#: Most pixels of a picture, and most bytes of its file.
PIXELS = 1 << 24
FILE = 1 << 26
_MODES = {"L": 1, "RGB": 3}


class ImageFolder(DataSource):
    """Pictures (png, jpg, bmp, webp, pgm, ppm) in sub-folders that are named for their class.

    Rows come by class and then by file name, both in the order of Unicode. Columns are the pixels, ``x0``,
    ``x1``, …, ``uint8`` from 0 to 255, line by line from the upper left, colours (red, green, blue) of a
    pixel side by side; and ``label``, the class. Hidden files are left out. All pictures have one size and
    one mode; they are refused otherwise, unless ``size`` or ``mode`` says what to make of them. How a camera
    was held (EXIF) is not applied.

    Parameters
    ----------
    place : Place
        The folder.
    rows : int
        Most rows of a chunk.
    size : (int, int), optional
        Width and height in pixels to bring every picture to (bilinear).
    mode : str, optional
        "L" (grey) or "RGB" to bring every picture to.
    """

    _unit: ClassVar[str] = "row"

    def __init__(
        self, place: Place, rows: int, *, size: Sequence[int] | None = None, mode: str | None = None
    ) -> None:
        super().__init__(place.shown, rows)
        if mode is not None and mode not in _MODES:
            raise SourceError(
                f"mode must be 'L' or 'RGB', not {mode!r}", hint="pass one of them, or leave it out"
            )
        if size is not None and (
            len(size) != 2
            or not all(isinstance(one, int) and one > 0 for one in size)
            or size[0] * size[1] > PIXELS
        ):
            raise SourceError(
                f"size must be (width, height) in pixels, not {size!r}", hint="pass size=(28, 28)"
            )
        self._place, self._resized, self._mode = place, size is not None, mode
        self._files = [
            (child, folder.name)
            for folder in place.children()
            if folder.is_folder()
            for child in self._pictures(folder)
        ]
        if not self._files:
            raise SourceError(
                f"{self.name} holds no pictures in sub-folders",
                hint="put pictures into one folder for each class",
            )
        if mode is None or size is None:
            # the first picture decides
            with self._picture(self._files[0][0]) as first:
                self._mode = mode or ("L" if first.mode in ("1", "L", "I;16", "LA") else "RGB")
                size = size or first.size
        self._size = (int(size[0]), int(size[1]))
        self._width = self._size[0] * self._size[1] * _MODES[self._mode or "L"]
        if self._width > MAX_COLUMNS:
            raise SourceError(
                f"{self.name}: pictures of {self._size[0]} × {self._size[1]} make {self._width:,} columns; "
                f"at most {MAX_COLUMNS:,} are read",
                hint="pass a smaller size=(width, height)",
            )
        self._forced = mode is not None

    def _pictures(self, folder: Place) -> Iterator[Place]:
        for child in folder.children():
            if child.suffixes[0] not in SUFFIXES or child.is_folder():
                raise SourceError(
                    f"{child.shown} is no picture; expected {', '.join(SUFFIXES)}",
                    hint="move it out of the folder of its class",
                )
            yield child

    def _picture(self, place: Place) -> Any:
        """Open a picture after its size was checked; its pixels are not unpacked yet."""
        from PIL import Image

        if (place.size or 0) > FILE:
            raise SourceError(
                f"{place.shown} has {place.size:,} bytes; at most {FILE:,}", hint="scale it down"
            )
        stream, words = place.open(), ""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about its size, which is checked here
                picture = Image.open(stream, formats=_FORMATS)
        except Exception as error:  # noqa: BLE001  (decoders raise many things)
            stream.close()
            words = write_up(error)
        if words:
            raise SourceError(f"{place.shown} is not a picture: {words}", hint="replace or remove it")
        width, height = picture.size
        frames = getattr(picture, "n_frames", 1)
        if width * height > PIXELS or frames != 1:
            picture.close()
            raise SourceError(
                f"{place.shown} has {width} × {height} pixels in {frames} frame(s); "
                f"expected one frame of at most {PIXELS:,}",
                hint="scale it down, or remove it",
            )
        return picture

    def _pixels(self, place: Place) -> NDArray[np.uint8]:
        from PIL import Image

        words = ""
        with self._picture(place) as picture:
            if picture.size != self._size and not self._resized:
                raise SourceError(
                    f"{place.shown} has {picture.size[0]} × {picture.size[1]} pixels; the first picture has "
                    f"{self._size[0]} × {self._size[1]}",
                    hint="pass size=(width, height) to bring all to one size",
                )
            if picture.mode != self._mode and not self._forced and not self._same_mode(picture.mode):
                raise SourceError(
                    f"{place.shown} has mode {picture.mode}; the first picture has {self._mode}",
                    hint="pass mode='L' or mode='RGB' to bring all to one mode",
                )
            try:
                plain = picture.convert(self._mode)
                if plain.size != self._size:
                    plain = plain.resize(self._size, Image.Resampling.BILINEAR)
                return np.asarray(plain, dtype=np.uint8).reshape(-1)
            except Exception as error:  # noqa: BLE001  (decoders raise many things)
                words = write_up(error)
        raise SourceError(f"{place.shown} is damaged: {words}", hint="replace or remove it")

    def _same_mode(self, found: str) -> bool:
        """Return whether a mode is another way to store the same: bits as grey, a palette as colours."""
        return found in ({"1"} if self._mode == "L" else {"P"})

    @property
    def n_rows(self) -> int:
        """Number of pictures."""
        return len(self._files)

    @property
    def n_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size or 0 for file, _ in self._files)

    def fingerprint(self) -> bytes:
        """Return the SHA-256 over class, name and SHA-256 of each file, in order."""
        parts = (f"{label}/{file.name}\0".encode() + file.sha256() for file, label in self._files)
        return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).digest()

    def _dtypes(self) -> Mapping[str, str]:
        return dict.fromkeys(number_names("x", self._width), "uint8") | {"label": "str"}

    def _decided(self) -> dict[str, str]:
        labels = list(dict.fromkeys(label for _, label in self._files))
        how = "resized" if self._resized else "of every picture"
        return {"size": f"{self._size[0]} × {self._size[1]} ({how})", "mode": str(self._mode),
                "classes": ", ".join(labels[:20])}  # fmt: skip

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        size = step(self.rows, self._width)
        names = number_names("x", self._width)
        for start in range(0, len(self._files), size):
            some = self._files[start : start + size]
            pixels = np.empty((len(some), self._width), np.uint8)
            for at, (file, _) in enumerate(some):
                pixels[at] = self._pixels(file)
                tick(1)
            frame = pd.DataFrame(pixels, columns=names)
            labels = pd.Series([label for _, label in some], dtype="str", name="label")
            yield pd.concat([frame, labels], axis=1)
