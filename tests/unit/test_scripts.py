"""The scripts, their headers and the ``Code`` enum say the same."""

from __future__ import annotations

import re
from importlib.resources import files

import pytest
import redis

from worker.errors import LeaseLost
from worker.settings import Settings
from worker.store.client import connect
from worker.store.scripts import FRAGMENTS, LOADED, NAMES, Code, Scripts, owned, source

FILES = sorted(file.name for file in files("worker.store").joinpath("lua").iterdir() if file.name.endswith(".lua"))

WRITES = re.compile(
    r"redis\.call\('(?:SET|DEL|P?EXPIRE|HINCRBY|[HXZ](?:SET|DEL|ADD|REM)|[LR](?:PUSH|POP|SET|TRIM))'|ARGV\[at"
)


def header(name: str) -> list[str]:
    lines = source(name).splitlines()
    return lines[1 : next(i for i, line in enumerate(lines) if i and not line.startswith("--"))]


def codes_in_headers() -> dict[str, set[int]]:
    """Every NAME in capitals that a header gives a number: ``{0}  BUSY: ...``, ``{0, deadline}  DONE``, ``1 OK``."""
    found: dict[str, set[int]] = {}
    for name in NAMES:
        for line in header(name):
            for number, code in re.findall(r"\{(-?\d+)[^}]*\}\s+([A-Z][A-Z_]+)\b", line):
                found.setdefault(code, set()).add(int(number))
            for number, code in re.findall(r"(?<![\w{])(-?\d+) ([A-Z][A-Z_]+)\b", line):
                found.setdefault(code, set()).add(int(number))
    return found


def test_every_file_is_a_script_that_is_loaded_and_the_reverse() -> None:
    assert sorted(f"{name}.lua" for name in (*NAMES, *LOADED, *FRAGMENTS)) == FILES


@pytest.mark.parametrize("name", [*NAMES, *LOADED])
def test_a_script_says_what_it_needs_of_the_server(name: str) -> None:
    """Without the shebang a script is refused nothing, and may touch keys of other slots unnoticed."""
    first = source(name).splitlines()[0]
    assert re.fullmatch(r"#!lua flags=(allow-oom|no-writes)", first)
    assert ("no-writes" in first) == (WRITES.search(source(name)) is None)


@pytest.mark.parametrize("name", [*NAMES, *LOADED])
def test_a_header_gives_keys_arguments_and_results(name: str) -> None:
    text = "\n".join(header(name))
    assert "-- KEYS " in text
    assert "-- ARGV " in text or "ARGV" not in source(name)
    assert "-- Returns " in text


@pytest.mark.parametrize("name", [*NAMES, *LOADED])
def test_every_key_and_argument_used_by_number_is_in_the_header(name: str) -> None:
    text = "\n".join(header(name))
    for kind, following in (("KEYS", "ARGV"), ("ARGV", "Returns")):
        used = {int(number) for number in re.findall(rf"{kind}\[(\d+)\]", source(name))}
        part = text.partition(f"-- {kind} ")[2].partition(f"-- {following} ")[0]
        named = {int(number) for number in re.findall(r'(?:^|\s)(\d+) +[a-zA-Z"]', part)}
        assert used <= named, f"{kind} {sorted(used - named)} of {name}.lua"


def test_the_codes_of_the_headers_are_those_of_the_enum() -> None:
    found = codes_in_headers()
    assert found == {name: {int(code)} for name, code in Code.__members__.items()}


def test_a_lost_lease_becomes_a_typed_error_and_other_codes_themselves() -> None:
    with pytest.raises(LeaseLost, match="partition 3 belongs to another process"):
        owned(-1, "partition 3")
    assert owned(2, "partition 3") is Code.HANDED_ON
    with pytest.raises(ValueError, match="7"):
        owned(7, "partition 3")


def test_scripts_are_loaded_again_when_the_server_forgot_them(any_server_url: str, prefix: str) -> None:
    client: redis.Redis = connect(Settings(redis_url=any_server_url))
    with client:
        scripts = Scripts(client)
        keys = [f"{prefix}:{{p}}:{name}" for name in ("lease", "state", "bell", "inbox", "gaps")]
        assert scripts.run("acquire", keys, [60_000, 60_000, 7, 1, 1, 1, 1])[0] == 1
        client.script_flush()
        assert scripts.run("acquire", keys, [60_000, 60_000, 8, 1, 1, 1, 1]) == [0]
