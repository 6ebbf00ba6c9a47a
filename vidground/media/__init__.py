"""The ffmpeg program: clips, burned-in and soft subtitles."""
