"""Find the video of a sample in one of several folders, under its own suffix or another one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vidground.storage.files import VIDEO_SUFFIXES


class VideoFolders:
    """The folders that the `video` of annotations is relative to, searched in order.

    Args:
        roots: at least one folder; each listing is read once.
    """

    def __init__(self, roots: Sequence[Path]) -> None:
        self.roots = tuple(roots)
        self._listings: dict[Path, dict[str, Path]] = {}

    def find(self, video: str) -> Path | None:
        """Return the file of a video; None if no folder has it.

        A file of exactly this name in any of the folders comes first, then a video of the same
        name with another suffix, as after a conversion; of several, the first by name.

        Args:
            video: relative path, with /.
        """
        for root in self.roots:
            if (root / video).is_file():
                return root / video
        place = PurePosixPath(video)
        found = (self._by_stem(root / place.parent).get(place.stem) for root in self.roots)
        return next((path for path in found if path is not None), None)

    def expected(self, video: str) -> Path:
        """Return where a missing video should be: in the first folder."""
        return self.roots[0] / video

    def __str__(self) -> str:
        return " or ".join(map(str, self.roots))

    def _by_stem(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listings:
            paths = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
            self._listings[folder] = {
                path.stem: path
                for path in paths
                if path.suffix.lower() in VIDEO_SUFFIXES and path.is_file()
            }
        return self._listings[folder]
