"""Make the two films of this folder: `python examples/make_films.py`."""

from pathlib import Path

import numpy as np

from vidground.training.toy.dataset import toy_film, write_video
from vidground.training.toy.drawing import render
from vidground.training.toy.world import ToySettings

SETTINGS = ToySettings(min_duration_s=16, max_duration_s=32, max_events=3)
SEED, SIZE = 1, 112


def main() -> None:
    """Write the first two test films of the set that the toy model was trained on."""
    for index in range(2):
        film = toy_film(SEED, "test", index, settings=SETTINGS)
        times_s = np.arange(round(film.video.duration_s * SETTINGS.fps)) / SETTINGS.fps
        frames = render(film.video, times_s, size=SIZE, noise_seed=film.noise_seed)
        write_video(Path(__file__).parent / f"film_{index + 1}.mp4", iter(frames), fps=SETTINGS.fps)


if __name__ == "__main__":
    main()
