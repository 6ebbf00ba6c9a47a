import os
from pathlib import Path

import pytest

from vidground.archive.inputs import find_videos, parse_list
from vidground.errors import InputError


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """An empty folder that is the current one, and a function that puts files into it."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            path = Path(name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()

    return make


def paths(*inputs, **options):
    found = find_videos(inputs, **options)
    assert found.missing == ()
    return [str(video.path) for video in found.videos]


def places(*inputs, **options):
    return [str(video.relative) for video in find_videos(inputs, **options).videos]


def reasons(*inputs, **options):
    return {name: str(error) for name, error in find_videos(inputs, **options).missing}


def test_a_folder_gives_its_videos_by_name_and_nothing_else(archive):
    archive("a/b.mp4", "a/A.MKV", "a/b.srt", "a/notes.txt", "a/.b.mp4", "a/inside/c.mp4")
    Path("a/folder.mp4").mkdir()
    assert paths("a") == ["a/A.MKV", "a/b.mp4"]


def test_recursive_searches_folders_in_folders_but_not_hidden_ones(archive):
    archive("a/z.mp4", "a/2019/x.mp4", "a/2019/may/y.mp4", "a/.trash/t.mp4")
    assert paths("a", recursive=True) == ["a/z.mp4", "a/2019/x.mp4", "a/2019/may/y.mp4"]


def test_files_are_taken_whatever_their_suffix_in_the_order_given(archive):
    archive("z.bin", "a.mp4", "no_suffix")
    assert paths("z.bin", "no_suffix", "a.mp4") == ["z.bin", "no_suffix", "a.mp4"]


def test_a_file_named_twice_is_one_video(archive):
    archive("a/x.mp4", "a/y.mp4")
    Path("link").symlink_to("a")
    assert paths("a/y.mp4", "a", "./a/../a/x.mp4", "link") == ["a/y.mp4", "a/x.mp4"]


def test_a_link_to_a_video_is_a_video_of_its_own(archive):
    archive("a.mp4")
    Path("b.mp4").symlink_to("a.mp4")
    assert paths(".") == ["a.mp4", "b.mp4"]


HARD_NAMES = [
    "two words.mp4",
    'it\'s "quoted".mp4',
    "two\nlines.mp4",
    "-leading.mp4",
    "--out.mp4",
    "frame%03d.mp4",
    "http:x.mp4",
    "match [x].mp4",
    "star*.mp4",
    "what?.mp4",
    os.fsdecode(b"latin\xe9.mp4"),
    "\x1b[31mred.mp4",
]


@pytest.mark.parametrize("name", HARD_NAMES)
def test_any_name_works_as_a_file_in_a_folder_and_in_a_pattern(archive, name):
    archive(f"a/{name}")
    assert paths(f"a/{name}") == [f"a/{name}"]
    assert paths("a") == [f"a/{name}"]
    assert paths("a/*.mp4") == [f"a/{name}"]


def test_an_existing_name_is_no_pattern(archive):
    archive("match [x].mp4", "match x.mp4", "[2019]/a.mp4", "2/b.mp4")
    assert paths("match [x].mp4") == ["match [x].mp4"]
    assert paths("match [xy].mp4") == ["match x.mp4"]
    assert paths("[2019]/*.mp4") == ["[2019]/a.mp4"]
    assert places("[2019]/*.mp4") == ["a.mp4"]


def test_patterns(archive):
    archive("a/x.mp4", "a/b/y.mp4", "a/b/c/z.mp4", "a/b/y.srt", "a/b/.h.mp4", "raw/1.bin")
    assert paths("a/*.mp4") == ["a/x.mp4"]
    assert paths("*/*/*.mp4") == ["a/b/y.mp4"]
    assert paths("a/**/*.mp4") == ["a/x.mp4", "a/b/y.mp4", "a/b/c/z.mp4"]
    assert paths("a/*/?.mp4") == ["a/b/y.mp4"]
    assert paths("a/b/.*.mp4") == ["a/b/.h.mp4"]
    assert paths(f"{Path.cwd()}/a/[w-z].mp4") == [f"{Path.cwd()}/a/x.mp4"]


def test_a_pattern_takes_other_suffixes_only_if_it_names_them(archive):
    archive("a/x.mp4", "a/x.srt", "a/raw.bin")
    assert paths("a/x*") == ["a/x.mp4"]
    assert paths("a/*.bin") == ["a/raw.bin"]


def test_a_folder_that_a_pattern_matches_is_searched(archive):
    archive("2019/may/x.mp4", "2019/june/y.mp4", "2019/june/old/z.mp4")
    assert paths("2019/*") == ["2019/june/y.mp4", "2019/may/x.mp4"]
    assert len(paths("20*", recursive=True)) == 3


def test_places_in_a_mirrored_tree(archive):
    archive("a/x.mp4", "a/2019/y.mp4")
    assert places("a", recursive=True) == ["x.mp4", "2019/y.mp4"]
    assert places("a/**/y.mp4") == ["2019/y.mp4"]
    assert places("a/2019/y.mp4") == ["y.mp4"]
    assert places("a/2019/y.mp4", "a", relative_to=".") == ["a/2019/y.mp4", "a/x.mp4"]
    assert places("a/2019/../../a/*.mp4") == ["x.mp4"]
    assert places("a/20*/../x.mp4") == ["x.mp4"]  # and never one above the tree


def test_a_video_outside_of_the_tree_is_refused(archive):
    archive("a/x.mp4", "b/y.mp4")
    with pytest.raises(InputError, match=r"'b/y\.mp4' does not lie in 'a'"):
        find_videos(["a/x.mp4", "b/y.mp4"], relative_to="a")


def test_what_is_missing_is_named_and_the_rest_is_found(archive):
    archive("x.mp4", "empty/notes.txt", "deep/inside/y.mp4")
    asked = ["gone.mp4", "*.avi", "nowhere/*.mp4", "empty", "deep", "http://h/v.mp4", "", "a\0b"]
    found = find_videos([*asked, "x.mp4"])
    assert [str(video.path) for video in found.videos] == ["x.mp4"]
    assert [name for name, _ in found.missing] == asked
    why = dict(found.missing)
    assert str(why["gone.mp4"]) == "'gone.mp4': no such file; check the path"
    assert "no video matches this pattern" in str(why["*.avi"])
    assert "folders inside of it are not searched" in str(why["deep"])
    assert "download" in str(why["http://h/v.mp4"])


def test_an_input_met_before_is_not_missing(archive):
    archive("a/x.mp4")
    assert paths("a/x.mp4", "a", "a/*.mp4") == ["a/x.mp4"]


def test_links_in_a_circle_end_and_real_names_win(archive):
    archive("a/real/x.mp4", "b/y.mp4")
    Path("a/0_up").symlink_to("..")
    Path("a/real/self").symlink_to("self")
    Path("a/0_alias").symlink_to("real")
    Path("b/to_a").symlink_to("../a")
    assert paths("a", recursive=True) == ["a/0_up/b/y.mp4", "a/real/x.mp4"]
    assert sorted(paths("**/*.mp4")) == ["a/real/x.mp4", "b/y.mp4"]


def test_broken_links_and_pipes_are_passed_on_without_being_opened(archive):
    archive("a/x.mp4")
    Path("a/broken.mp4").symlink_to("gone")
    Path("a/loop.mp4").symlink_to("loop.mp4")
    os.mkfifo("a/pipe.mp4")
    expected = ["a/broken.mp4", "a/loop.mp4", "a/pipe.mp4", "a/x.mp4"]
    assert paths("a") == expected
    assert paths(*expected) == expected


def test_a_folder_that_cannot_be_read_is_told(archive, monkeypatch):
    archive("a/x.mp4", "a/locked/y.mp4")
    iterdir = Path.iterdir

    def refuse(self):
        if self.name == "locked":
            raise PermissionError(13, "Permission denied")
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    found = find_videos(["a"], recursive=True)
    assert [str(video.path) for video in found.videos] == ["a/x.mp4"]
    assert reasons("a", recursive=True) == {
        "a/locked": "'a/locked': the folder cannot be read: Permission denied"
    }


def test_lists_hold_lines_or_names_that_end_in_nul():
    assert parse_list(b"a.mp4\n\nb c.mp4\r\n") == ["a.mp4", "b c.mp4"]
    assert parse_list(b"\xef\xbb\xbfa.mp4") == ["a.mp4"]
    assert parse_list(b"two\nlines.mp4\0b\r\0") == ["two\nlines.mp4", "b\r"]
    assert parse_list(b"latin\xe9.mp4\n") == [os.fsdecode(b"latin\xe9.mp4")]
    assert parse_list(b"\n") == []


def test_an_empty_folder_can_be_no_miss_an_unreadable_or_absent_one_always_is(archive, monkeypatch):
    archive("a/notes.txt", "b/c.txt")
    assert list(reasons("a", "gone")) == ["a", "gone"]
    assert list(reasons("a", "gone", empty_ok=True)) == ["gone"]

    def refuse(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert list(reasons("a", empty_ok=True)) == ["a"]


def test_what_is_passed_over_is_counted_by_suffix(archive):
    archive("a/x.mp4", "a/y.xyz", "a/z.XYZ", "a/notes", "a/m.mp4.part", "a/.h.xyz", "a/in/w.abc")
    found = find_videos(["a", "a/*"], recursive=False)
    assert found.passed_over == {".xyz": 2, "": 1, ".abc": 1}
    assert find_videos(["a/y.xyz"]).passed_over == {}


def test_videos_in_folders_that_are_not_searched_are_counted(archive):
    archive("a/x.mp4", "a/in/y.mp4", "a/in/deeper/z.mkv", "a/in/notes.txt", "a/.trash/t.mp4")
    assert find_videos(["a"], count_subfolders=True).in_subfolders == 2
    assert find_videos(["a"], count_subfolders=True, exclude=["deeper"]).in_subfolders == 1
    assert find_videos(["a"], count_subfolders=True, recursive=True).in_subfolders == 0
    assert find_videos(["a"]).in_subfolders == 0


@pytest.mark.parametrize(
    ("pattern", "left"),
    [
        ("*_proxy.mp4", ["a/x.mp4", "a/in/y.mp4", "a/in/deep/z.mp4"]),
        ("in", ["a/x.mp4", "a/x_proxy.mp4"]),
        ("in/", ["a/x.mp4", "a/x_proxy.mp4"]),
        ("in/deep", ["a/x.mp4", "a/x_proxy.mp4", "a/in/y.mp4"]),
        ("in/*.mp4", ["a/x.mp4", "a/x_proxy.mp4"]),
        ("a", ["a/x.mp4", "a/x_proxy.mp4", "a/in/y.mp4", "a/in/deep/z.mp4"]),
    ],
)
def test_excluded_names_and_paths_are_left_out(archive, pattern, left):
    archive("a/x.mp4", "a/x_proxy.mp4", "a/in/y.mp4", "a/in/deep/z.mp4")
    assert paths("a", recursive=True, exclude=[pattern]) == left
    assert paths("a/x_proxy.mp4", exclude=[pattern]) == ["a/x_proxy.mp4"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"])
def test_lists_in_other_unicode_encodings_are_read(encoding):
    text = "\ufeffa b.mp4\r\nü.mkv\r\n" if encoding[-3:] in ("-le", "-be") else "a b.mp4\nü.mkv\n"
    assert parse_list(text.encode(encoding)) == ["a b.mp4", "ü.mkv"]


def test_a_list_that_is_not_the_encoding_it_states_is_refused():
    with pytest.raises(InputError, match=r"starts as UTF-16 but byte 4 .* save it as UTF-8"):
        parse_list("\ufeffa".encode("utf-16-le") + b"b")
