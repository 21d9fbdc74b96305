"""What is fixed at the first start, on a stand-in server: no script runs here, so none has to be real."""

import fakeredis
import pytest

from worker.errors import ConfigurationError
from worker.settings import DEFAULT_PARTITIONS, Settings
from worker.store.installation import fix_partitions, stored_partitions


@pytest.fixture
def server() -> fakeredis.FakeRedis:
    return fakeredis.FakeRedis(server=fakeredis.FakeServer())


def test_the_first_start_fixes_the_partitions_and_later_ones_find_them(server: fakeredis.FakeRedis) -> None:
    assert stored_partitions(server, Settings()) is None
    assert fix_partitions(server, Settings(partitions=8)) == 8
    assert fix_partitions(server, Settings()) == 8
    assert fix_partitions(server, Settings(partitions=8)) == 8


def test_unset_it_is_the_default(server: fakeredis.FakeRedis) -> None:
    assert fix_partitions(server, Settings()) == DEFAULT_PARTITIONS


def test_another_number_is_refused_in_one_line_that_says_what_to_do(server: fakeredis.FakeRedis) -> None:
    fix_partitions(server, Settings(partitions=8))
    with pytest.raises(ConfigurationError) as raised:
        fix_partitions(server, Settings(partitions=16))
    assert str(raised.value).startswith("HANDOFF_PARTITIONS: is 16, but this installation has 8 partitions")
    assert "set it to 8" in str(raised.value)


def test_installations_share_a_server_under_prefixes_of_their_own(server: fakeredis.FakeRedis) -> None:
    assert fix_partitions(server, Settings(prefix="a", partitions=2)) == 2
    assert fix_partitions(server, Settings(prefix="b", partitions=3)) == 3
