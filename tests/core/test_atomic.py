import errno
import os

import pytest

from striate.core.atomic import atomic_path, write_text_atomic
from striate.core.errors import WriteError


def test_replaces_whole_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "new" / "run.json"
    write_text_atomic(target, "one")
    write_text_atomic(target, "zwei ü")
    assert target.read_text(encoding="utf-8") == "zwei ü"
    assert [p.name for p in target.parent.iterdir()] == ["run.json"]


def test_an_error_keeps_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def fail():
        with atomic_path(target) as temporary:
            temporary.write_text("half")
            raise RuntimeError("disk")

    with pytest.raises(RuntimeError, match="disk"):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some space"),
        (errno.EACCES, "name a place that you may write to"),
        (errno.EROFS, "name a place that you may write to"),
        (errno.EIO, "name another place"),
    ],
)
@pytest.mark.parametrize("fails", ["tempfile.mkstemp", "os.fsync", "os.replace"])
def test_the_remedy_fits_the_cause_and_the_old_file_stays(tmp_path, monkeypatch, number, remedy, fails):
    target = tmp_path / "file"
    target.write_text("old")

    def fail(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"striate.core.atomic.{fails}", fail)
    with pytest.raises(WriteError) as caught:
        write_text_atomic(target, "new")
    assert str(caught.value) == f"can't write {target} ({os.strerror(number)}): {remedy}"
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WriteError, match=r"can't write .*/file/new \(.*\): name another place$"):
        write_text_atomic(tmp_path / "file" / "new", "x")
