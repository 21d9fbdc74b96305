"""The folder of `handoff dev`."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.errors import ConfigurationError
from worker.ops.dev_folder import DevFolder


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    folder = DevFolder(tmp_path)
    assert folder.secret().startswith("ibt_wh_")
    assert folder.secret() == DevFolder(tmp_path).secret()


@pytest.mark.parametrize("content", [b"short", b"two_secrets,in_one", b"\xff\xfe not text"])
def test_a_secret_that_somebody_spoilt_is_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "secret").write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"secret: holds no secret that can be used \(delete it") as raised:
        DevFolder(tmp_path).secret()
    assert "\n" not in str(raised.value)


def test_nobody_else_may_look_into_the_folder_also_if_it_was_there(tmp_path: Path) -> None:
    path = tmp_path / ".handoff"
    path.mkdir(mode=0o755)
    with DevFolder(path).held():
        assert path.stat().st_mode & 0o777 == 0o700
