"""Reads arrays and tensors from files (npy, npz, pt, safetensors), without ever running what is in them."""

import re
import zipfile
import zlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twopm_kit.errors import SourceError
from twopm_kit.vsies.sources.base import Tick, checked_names, step, write_up
from twopm_kit.vsies.sources.cells import cast
from twopm_kit.vsies.sources.files import FileSource, Place, checked_zip
from twopm_kit.vsies.sources.frames import number_names, plain_array
from twopm_kit.vsies.sources.registry import reads

__all__ = ["ArraySource", "Npy", "Npz", "Safetensors", "Torch"]

_HINT = "write it again with numpy.save and plain numbers"


class ArraySource(FileSource):
    """One array, or several of as many rows each.

    The first axis of each array are the rows. An array of one axis is a column of its name; of an array with
    more, the other axes are laid out in C order as columns ``<name>0``, ``<name>1``, …; the only array of a
    file is called ``x`` (and with one axis ``x0``). Fields of records are columns of their names.

    Parameters
    ----------
    place : Place
        The file.
    rows : int
        Most rows of a chunk.
    columns : sequence of str, optional
        Names of all columns instead of these.
    """

    def __init__(self, place: Place, rows: int, *, columns: Sequence[str] | None = None) -> None:
        super().__init__(place, rows)
        self._state = place.state()
        #: name -> (shape, dtype) of each array, from the file's own description
        self._layout = self._describe()
        if not self._layout:
            raise SourceError(f"{self.name} holds no array", hint="write at least one array into it")
        lengths = {name: shape[0] for name, (shape, _) in self._layout.items() if shape}
        if len(lengths) < len(self._layout) or len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name[:40]} {shape}" for name, (shape, _) in self._layout.items())
            raise SourceError(
                f"{self.name}: arrays have different numbers of rows: {listed[:300]}",
                hint="write arrays with one row for each sample, all of the same length",
            )
        self._length = next(iter(lengths.values()))
        found = [pair for name in self._layout for pair in self._columns_of(name)]
        names = [name for name, _ in found] if columns is None else list(columns)
        self._names = checked_names(names, self.name)
        if len(self._names) != len(found):
            raise SourceError(
                f"columns= has {len(self._names)} names; {self.name} has {len(found)} columns",
                hint="pass one name for each column",
            )
        self._kinds = dict(zip(self._names, (dtype for _, dtype in found), strict=True))

    def _columns_of(self, name: str) -> Iterator[tuple[str, str]]:
        shape, dtype = self._layout[name]
        sample = plain_array(np.empty((0, *shape[1:]), dtype), f"{self.name}, array {name[:80]!r}")
        if sample.dtype.names is not None:
            if len(shape) > 1:
                raise SourceError(
                    f"{self.name}: records in {len(shape)} axes", hint="write one axis of records"
                )
            for one in sample.dtype.names:
                yield one, _pandas_dtype(plain_array(sample[one], one).dtype)
            return
        width = int(np.prod(shape[1:], dtype=object))
        only = len(self._layout) == 1
        if len(shape) == 1 and not only:
            yield name, _pandas_dtype(sample.dtype)
            return
        if width > 1 << 24:
            raise SourceError(f"{self.name}: array of shape {shape} has {width:,} columns", hint="cut it")
        yield from ((one, _pandas_dtype(sample.dtype)) for one in number_names("x" if only else name, width))

    @abstractmethod
    def _describe(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Return shape and dtype of each array."""

    @abstractmethod
    def _slabs(self, size: int, tick: Tick) -> Iterator[dict[str, NDArray[Any]]]:
        """Yield so many rows of each array at a time."""

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return self._length

    def _dtypes(self) -> Mapping[str, str]:
        return self._kinds

    def _decided(self) -> dict[str, str]:
        shapes = "; ".join(f"{name} {shape} {dtype}" for name, (shape, dtype) in self._layout.items())
        return {"arrays": shapes[:1000]}

    def _pieces(self, tick: Tick) -> Iterator[pd.DataFrame]:
        if self._place.state() != self._state:
            raise SourceError(f"{self.name} changed while it was in use", hint="open it again")
        for slab in self._slabs(step(self.rows, len(self._names)), tick):
            parts: list[Any] = []
            for array in slab.values():
                if array.dtype.names is not None:
                    parts += [plain_array(array[one], one) for one in array.dtype.names]
                else:
                    parts += list(plain_array(array, self.name).reshape(len(array), -1).T)
            piece = {at: cast(pd.Series(part), kind) for at, (part, kind) in enumerate(
                zip(parts, self._kinds.values(), strict=True))}  # fmt: skip
            frame = pd.DataFrame(piece, copy=False)
            frame.columns = pd.Index(self._names)
            yield frame


def _pandas_dtype(dtype: np.dtype[Any]) -> str:
    if dtype.kind in "US":
        return "str"
    if dtype.kind in "mM":
        return f"{'datetime' if dtype.kind == 'M' else 'timedelta'}64[us]"
    return str(dtype)


class _Member:
    """An array in the npy format, read from a stream a number of rows at a time."""

    def __init__(self, stream: IO[bytes], where: str, size: int | None) -> None:
        self._stream, self._where = stream, where
        form = np.lib.format
        words = ""
        try:
            version = form.read_magic(stream)
            read = {(1, 0): form.read_array_header_1_0}.get(version, form.read_array_header_2_0)
            self.shape, self.fortran, self.dtype = read(stream)
        except Exception as error:  # noqa: BLE001  (the header is a hostile text that numpy parses)
            words = write_up(error)
        if words:
            raise SourceError(f"{where} has no valid npy header: {words}", hint=_HINT)
        if self.dtype.hasobject:
            raise SourceError(f"{where} holds Python objects (a pickle), which are never read", hint=_HINT)
        if any(length < 0 for length in self.shape):
            raise SourceError(f"{where}: shape {self.shape}", hint=_HINT)
        # Python's own integers: a hostile shape overflows numpy's
        self.size = int(np.prod(self.shape, dtype=object)) * self.dtype.itemsize
        self._start = stream.tell()
        if size is not None and size - self._start != self.size:
            raise SourceError(
                f"{where} has {size - self._start:,} bytes of values; shape {self.shape} of {self.dtype} "
                f"takes {self.size:,}",
                hint="the file is cut off or damaged: fetch it again",
            )
        if self.dtype.itemsize == 0:
            raise SourceError(f"{where} holds {self.dtype}, values without a size", hint=_HINT)

    def rows(self, start: int, count: int) -> NDArray[Any]:
        """Return some rows; in C order the stream is only read forward."""
        width = int(np.prod(self.shape[1:], dtype=object))
        if not self.fortran or len(self.shape) == 1:
            return self._values(count * width).reshape(count, *self.shape[1:])
        parts = []
        for column in range(width):
            self._stream.seek(self._start + (column * self.shape[0] + start) * self.dtype.itemsize)
            parts.append(self._values(count))
        return np.stack(parts, axis=1).reshape((count, *self.shape[1:]), order="F")

    def _values(self, count: int) -> NDArray[Any]:
        wanted = count * self.dtype.itemsize
        words, content = "the file ends", b""
        try:
            while len(content) < wanted:
                block = self._stream.read(wanted - len(content))
                if not block:
                    break
                content = content + block if content else block
        except (OSError, EOFError, zipfile.BadZipFile, ValueError, zlib.error) as error:
            words = write_up(error)
        if len(content) != wanted:
            raise SourceError(f"{self._where} cannot be read to its end: {words}", hint="fetch it again")
        return np.frombuffer(content, self.dtype)


@reads(".npy")
class Npy(ArraySource):
    """An array that `numpy.save` wrote; never a pickle."""

    def _describe(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        with self._place.open() as stream:
            member = _Member(stream, self.name, self._place.size)
        return {"x": (member.shape, member.dtype)}

    def _slabs(self, size: int, tick: Tick) -> Iterator[dict[str, NDArray[Any]]]:
        with self._place.open() as stream:
            member = _Member(stream, self.name, self._place.size)
            for start in range(0, self._length, size):
                values = member.rows(start, min(size, self._length - start))
                tick(values.nbytes)
                yield {"x": values}


@reads(".npz")
class Npz(ArraySource):
    """Arrays that `numpy.savez` or `numpy.savez_compressed` wrote; never pickles.

    Arrays in Fortran order are read column by column, which a compressed file makes slow.
    """

    def _members(self, archive: zipfile.ZipFile) -> dict[str, _Member]:
        members = {}
        for info in archive.infolist():
            where = f"{self.name}, array {info.filename[:80]!r}"
            if not info.filename.endswith(".npy"):
                raise SourceError(f"{where} is not an npy file", hint="write it with numpy.savez")
            name = info.filename.removesuffix(".npy")
            if name in members:
                raise SourceError(f"{where} is there twice", hint="write it with numpy.savez")
            words = ""
            try:
                member = archive.open(info)
            except Exception as error:  # noqa: BLE001  (so many things can be wrong in a hostile archive)
                words = write_up(error)
            if words:
                raise SourceError(f"{where} cannot be read: {words}", hint="write it with numpy.savez")
            members[name] = _Member(member, where, info.file_size)
        return members

    def _archive(self, stream: IO[bytes]) -> zipfile.ZipFile:
        checked_zip(stream, self.name)
        return zipfile.ZipFile(stream)

    def _describe(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        with self._place.open() as stream, self._archive(stream) as archive:
            return {name: (one.shape, one.dtype) for name, one in self._members(archive).items()}

    def _slabs(self, size: int, tick: Tick) -> Iterator[dict[str, NDArray[Any]]]:
        with self._place.open() as stream, self._archive(stream) as archive:
            members = self._members(archive)
            for start in range(0, self._length, size):
                count = min(size, self._length - start)
                yield {name: one.rows(start, count) for name, one in members.items()}
                tick(int((self._place.size or 0) * count / self._length))


class _Tensors(ArraySource):
    """Tensors of a file that is mapped into memory."""

    @abstractmethod
    def _load(self) -> dict[str, Any]:
        """Return the tensors by name."""

    def _checked(self) -> dict[str, Any]:
        tensors = self._load()
        for name, tensor in tensors.items():
            where = f"{self.name}, tensor {str(name)[:80]!r}"
            plain = tensor.layout.__str__() == "torch.strided" and tensor.device.type == "cpu"
            if not plain or tensor.is_quantized or tensor.is_complex():
                raise SourceError(
                    f"{where} is {tensor.dtype}, {tensor.layout}, on {tensor.device}; expected plain numbers",
                    hint="write it with tensor.detach().cpu().to_dense()",
                )
            # strides of zero make a tensor of any size from a single value
            if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
                raise SourceError(
                    f"{where} of shape {tuple(tensor.shape)} takes more bytes than the file holds for it",
                    hint="write it with tensor.contiguous()",
                )
        return tensors

    def _describe(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        return {
            name: (tuple(one.shape), _numpy(one[:0] if one.ndim else one).dtype)
            for name, one in self._checked().items()
        }

    def _slabs(self, size: int, tick: Tick) -> Iterator[dict[str, NDArray[Any]]]:
        tensors = self._checked()
        for start in range(0, self._length, size):
            count = min(size, self._length - start)
            yield {name: _numpy(one[start : start + count]) for name, one in tensors.items()}
            tick(int((self._place.size or 0) * count / self._length))


@reads(".pt", ".pth")
class Torch(_Tensors):
    """A tensor, or a flat dict of tensors, that `torch.save` wrote; read with ``weights_only=True`` alone."""

    def _load(self) -> dict[str, Any]:
        import torch

        with self._place.open() as stream:
            checked_zip(stream, self.name)
            stream.seek(0)
            with zipfile.ZipFile(stream) as archive:
                packed = [
                    one.filename for one in archive.infolist() if one.compress_type != zipfile.ZIP_STORED
                ]
                total = sum(one.file_size for one in archive.infolist())
        if packed or total > (self._place.size or total):
            raise SourceError(
                f"{self.name} is not as torch.save writes it: {total:,} bytes unpacked", hint="save it again"
            )
        words, found = "", None
        try:
            found = torch.load(self._place.on_disk(), map_location="cpu", weights_only=True, mmap=True)
        except Exception as error:  # noqa: BLE001  (torch raises many things for what it will not read)
            # torch advises to switch its check off; what it found is enough
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            words = named[1] if named else type(error).__name__
        if words:
            raise SourceError(
                f"{self.name} holds more than tensors, or is damaged: {words}",
                hint="save tensors only: torch.save({'x': x, 'y': y}, path)",
            )
        tensors = {"x": found} if isinstance(found, torch.Tensor) else found
        if not isinstance(tensors, dict) or not all(
            isinstance(name, str) and isinstance(one, torch.Tensor) for name, one in tensors.items()
        ):
            raise SourceError(
                f"{self.name} holds a {type(found).__name__}; expected a tensor or a flat dict of tensors",
                hint="save tensors only: torch.save({'x': x, 'y': y}, path)",
            )
        return dict(tensors)


@reads(".safetensors")
class Safetensors(_Tensors):
    """Tensors in the safetensors format, by name."""

    def _load(self) -> dict[str, Any]:
        from safetensors import safe_open

        words = ""
        try:
            with safe_open(str(self._place.on_disk()), framework="pt") as file:
                return {name: file.get_tensor(name) for name in sorted(file.keys())}
        except Exception as error:  # noqa: BLE001  (its own error type is compiled)
            words = write_up(error)
        raise SourceError(f"{self.name} is damaged: {words}", hint="fetch it again, or write it again")


def _numpy(tensor: Any) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16 and the eight-bit floats become float32, which holds them."""
    tensor = tensor.detach()
    if tensor.is_floating_point() and tensor.element_size() < 4:
        tensor = tensor.float()
    array: NDArray[Any] = tensor.numpy()
    return array
