"""The videos of a run: names, folders and patterns to a list of files.

Only names are looked up and no file is opened, so that pipes and devices are safe. Knows neither
results (`vidground.archive.outputs`) nor the content of videos.
"""

import codecs
import fnmatch
import os
import stat
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vidground.errors import InputError, VideoError
from vidground.storage.files import VIDEO_SUFFIXES, printable

_MAGIC = frozenset("*?[")
_SUFFIXES = ", ".join(sorted(VIDEO_SUFFIXES))

MOST_COUNTED = 1000
"""Number of videos, and of folders, after which videos in subfolders are no longer counted."""

_WIDE_ENCODINGS = {  # UTF-32 first: its little-endian mark starts with that of UTF-16
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}

_UNFINISHED = frozenset(
    {
        ".crdownload",
        ".download",
        ".filepart",
        ".opdownload",
        ".part",
        ".partial",
        ".tmp",
        ".ytdl",
        ".!qb",
        ".!ut",
        ".aria2",
    }
)
"""Lower-case suffixes that programs give to files while they write them."""


@dataclass(frozen=True, slots=True)
class InputVideo:
    """A file to process.

    Attributes:
        path: of the file.
        relative: its path in a tree of results that mirrors the inputs.
    """

    path: Path
    relative: Path


@dataclass(frozen=True, slots=True)
class FoundVideos:
    """The return value of `find_videos`.

    Attributes:
        videos: that were found.
        missing: inputs that were not found, with the reasons.
        passed_over: number of files in folders and patterns that do not count as videos, by
            lower-case suffix; "" for files without one. Names of unfinished downloads and hidden
            files are not counted.
        in_subfolders: number of videos in subfolders that were not searched; counting ends at
            `MOST_COUNTED`.
    """

    videos: tuple[InputVideo, ...]
    missing: tuple[tuple[str, VideoError], ...]
    passed_over: Mapping[str, int] = field(default_factory=dict)
    in_subfolders: int = 0


def find_videos(
    inputs: Iterable[str | os.PathLike[str]],
    *,
    recursive: bool = False,
    relative_to: str | os.PathLike[str] | None = None,
    empty_ok: bool = False,
    exclude: Sequence[str] = (),
    count_subfolders: bool = False,
) -> FoundVideos:
    """Return the videos that inputs name, in their order, each once.

    An input is the first of these that applies:

    - a file, whatever its suffix and the characters in its name;
    - a folder: the files in it whose suffix is in `VIDEO_SUFFIXES`, by name;
    - a pattern with `*`, `?`, `[…]`, or `**` for any folders: what it matches, by name. Unless it
      ends in a suffix (`*.bin`), it matches only files with these suffixes.

    Names that start with a dot are skipped in folders and patterns.

    Args:
        inputs: names of files and folders, and patterns.
        recursive: search subfolders, too. Links to folders are followed; each folder is searched
            once, so that circular links end.
        relative_to: folder that `InputVideo.relative` starts at. None for the given folder, the
            part of a pattern before its first wildcard, or a file's own folder.
        empty_ok: do not report a folder without videos as missing; an unreadable one is reported.
        exclude: patterns of names in folders and of what patterns match, `*`, `?` and `[…]`. A file
            is left out if its name, its path below the folder, or the name or path of a folder
            around it there matches.
        count_subfolders: count the videos in subfolders if these are not searched.

    Raises:
        InputError: a video is not in `relative_to`.
    """
    search = _Search(recursive, empty_ok, tuple(exclude), count_subfolders)
    for name in inputs:
        search.add(os.fspath(name))
    videos = search.videos
    if relative_to is not None:
        videos = [InputVideo(v.path, _below(v.path, relative_to)) for v in videos]
    return FoundVideos(
        tuple(videos),
        tuple(search.missing.items()),
        Counter(path.suffix.lower() for path in search.passed_over.values()),
        len(search.deeper),
    )


def parse_list(content: bytes) -> list[str]:
    """Return the names in a list: one per line, or separated by NUL bytes if there are any.

    A list in UTF-16 or UTF-32, with a byte order mark, is read as such; otherwise bytes that are
    not UTF-8 are kept. Empty lines and the mark are dropped.

    Raises:
        InputError: the bytes after a UTF-16 or UTF-32 mark are not text of that encoding.
    """
    for mark, encoding in _WIDE_ENCODINGS.items():
        if content.startswith(mark):
            try:
                content = content.decode(encoding).encode(errors="surrogatepass")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"the list starts as {encoding} but byte {error.start} does not continue it; "
                    "save it as UTF-8"
                ) from error
            break
    if b"\0" in content:
        names = content.split(b"\0")
    else:
        lines = content.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        names = [line.removesuffix(b"\r") for line in lines]
    return [os.fsdecode(name) for name in names if name]


@dataclass
class _Search:
    """Collects the videos of inputs, for one call of `find_videos`."""

    recursive: bool
    empty_ok: bool
    exclude: tuple[str, ...] = ()
    count_subfolders: bool = False
    videos: list[InputVideo] = field(default_factory=list)
    missing: dict[str, VideoError] = field(default_factory=dict)
    passed_over: dict[Path, Path] = field(default_factory=dict)  # by `_identity`
    deeper: set[Path] = field(default_factory=set)  # videos in subfolders that are not searched
    _seen: set[Path] = field(default_factory=set)
    _told: int = 0  # videos met, those met before included, and folders that cannot be read

    def add(self, name: str) -> None:
        told = self._told
        if name and _folder_id(name):
            self._add_folder(Path(name), Path(name))
            if self._told == told and not self.empty_ok:
                deeper = "" if self.recursive else " (folders inside of it are not searched)"
                self._miss(name, f"no video in this folder{deeper}; known suffixes: {_SUFFIXES}")
        elif name and os.path.lexists(name):
            self._take(Path(name), Path(name).parent)
        elif _MAGIC.intersection(name):
            self._add_pattern(name)
            if self._told == told:
                self._miss(name, "no video matches this pattern; check its folder and its suffix")
        elif "://" in name:
            self._miss(name, "addresses are not opened; download the video first")
        else:
            self._miss(name, "no such file; check the path")

    def _add_folder(self, folder: Path, base: Path) -> None:
        for inside in self._folders(folder) if self.recursive else [folder]:
            for path in self._children(inside):
                if not _folder_id(path):
                    self._choose(path, base)
        if self.count_subfolders and not self.recursive:
            self._count_below(folder)

    def _choose(self, path: Path, base: Path, *, any_suffix: bool = False) -> None:
        """Take a file that was found rather than named, if it counts as a video."""
        suffix = path.suffix.lower()
        if self._is_excluded(path.relative_to(base)):
            return
        if any_suffix or suffix in VIDEO_SUFFIXES:
            self._take(path, base)
        elif suffix not in _UNFINISHED:
            self.passed_over[_identity(path)] = path

    def _is_excluded(self, relative: Path) -> bool:
        places = [relative, *relative.parents[:-1]]  # the last one is "."
        return any(
            fnmatch.fnmatchcase(name, pattern.rstrip("/"))
            for place in places
            for name in (place.name, str(place))
            for pattern in self.exclude
        )

    def _count_below(self, top: Path) -> None:
        """Count videos in subfolders, silent about folders that cannot be read."""
        for count, (folder, inside, names) in enumerate(os.walk(top)):
            inside[:] = [name for name in inside if not name.startswith(".")]
            if count > MOST_COUNTED or len(self.deeper) >= MOST_COUNTED:
                return
            if count:  # the first is `top`
                videos = (n for n in names if Path(n).suffix.lower() in VIDEO_SUFFIXES)
                found = (Path(folder, name) for name in videos if not name.startswith("."))
                self.deeper.update(
                    _identity(path)
                    for path in found
                    if not self._is_excluded(path.relative_to(top))
                )

    def _add_pattern(self, pattern: str) -> None:
        base, parts = _split_pattern(pattern)
        paths = [base]
        for part in parts:
            paths = [match for path in paths for match in self._matches(path, part)]
        suffix = Path(parts[-1]).suffix
        any_suffix = bool(suffix) and not _MAGIC.intersection(suffix)
        for path in paths:
            if _folder_id(path):
                self._add_folder(path, base)
            else:
                self._choose(path, base, any_suffix=any_suffix)

    def _matches(self, folder: Path, part: str) -> list[Path]:
        if os.path.lexists(folder / part):
            return [folder / part]
        if part == "**":
            return self._folders(folder)
        children = self._children(folder, hidden=part.startswith("."))
        return [path for path in children if fnmatch.fnmatchcase(path.name, part)]

    def _folders(self, top: Path) -> list[Path]:
        """Return `top` and all its subfolders, each once, by its own name rather than a link."""
        seen: set[tuple[int, int]] = set()
        waiting, links = deque([top]), deque[Path]()
        found = []
        while waiting or links:
            folder = (waiting or links).popleft()
            identity = _folder_id(folder)
            if identity is None or identity in seen:
                continue
            seen.add(identity)
            found.append(folder)
            for path in self._children(folder):
                if _folder_id(path):
                    (links if path.is_symlink() else waiting).append(path)
        return sorted(found)

    def _children(self, folder: Path, *, hidden: bool = False) -> list[Path]:
        try:
            paths = sorted(folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            self._told += 1
            self._miss(str(folder), f"the folder cannot be read: {error.strerror}")
            return []
        return [path for path in paths if hidden or not path.name.startswith(".")]

    def _take(self, path: Path, base: Path) -> None:
        self._told += 1
        identity = _identity(path)
        if identity not in self._seen:
            self._seen.add(identity)
            relative = path.relative_to(base)
            # A pattern can lead upwards ("*/../x.mp4"); results must not leave their tree.
            climbs = ".." in relative.parts
            self.videos.append(InputVideo(path, Path(path.name) if climbs else relative))

    def _miss(self, name: str, reason: str) -> None:
        self.missing.setdefault(name, VideoError(f"{printable(name)}: {reason}"))


def _split_pattern(pattern: str) -> tuple[Path, tuple[str, ...]]:
    """Return the folder that a pattern starts in, and the parts of the pattern below it.

    A part is not a wildcard if a file or folder has exactly this name, even with brackets.
    """
    base = Path()
    parts = Path(pattern).parts
    for count, part in enumerate(parts):
        if _MAGIC.intersection(part) and not os.path.lexists(base / part):
            return base, parts[count:]
        base /= part
    return base.parent, parts[-1:]


def _folder_id(path: str | Path) -> tuple[int, int] | None:
    """Return a number pair that identifies a folder under all its names; None for other files."""
    try:
        status = Path(path).stat()
    except (OSError, ValueError):  # ValueError: a NUL byte in the name
        return None
    return (status.st_dev, status.st_ino) if stat.S_ISDIR(status.st_mode) else None


def _identity(path: Path) -> Path:
    """Return a path that is the same for two names of one file, but not for a link to it."""
    return Path(os.path.realpath(path.parent), path.name)


def _below(path: Path, folder: str | os.PathLike[str]) -> Path:
    try:
        return _identity(path).relative_to(os.path.realpath(folder))
    except ValueError as error:
        raise InputError(
            f"{printable(path)} does not lie in {printable(folder)}, which the tree of results "
            "shall start at; name a folder that holds all videos"
        ) from error
