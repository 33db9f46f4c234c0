import pytest

from striate.core.atomic import atomic_path, write_text_atomic


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
