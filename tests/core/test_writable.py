"""Where a command may write."""

from pathlib import Path

import pytest

from striate.core.errors import UsageError
from striate.core.writable import check_writable


@pytest.mark.parametrize(
    ("name", "better"),
    [("net.pth", "net.safetensors"), ("net", "net.safetensors"), ("net-v1.2", "net-v1.2.safetensors")],
)
def test_another_ending_is_refused_with_a_better_name(tmp_path, name, better):
    with pytest.raises(UsageError, match=f"write {tmp_path / better}$"):
        check_writable(tmp_path / name, (".safetensors",), False)


def test_what_is_read_is_not_written_even_by_force(tmp_path):
    run, link = tmp_path / "run", tmp_path / "link.safetensors"
    run.mkdir()
    (run / "model.safetensors").write_bytes(b"weights")
    link.hardlink_to(run / "model.safetensors")
    source = run / "model.safetensors"
    for target in (source, link):
        with pytest.raises(UsageError, match=f"than {source}, got that one"):
            check_writable(target, (".safetensors",), True, sources=[Path("nowhere"), source])
    check_writable(run / "other.safetensors", (".safetensors",), False, sources=[source])
