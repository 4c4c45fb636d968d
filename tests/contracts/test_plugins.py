"""Plugins by entry point, by registration, by misspelt name."""

import pytest

from rsacompare import plugins
from rsacompare.errors import ProtocolError


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    monkeypatch.setattr(plugins, "_registered", {group: {} for group in plugins.GROUPS})


def loader():
    """A data set."""


def test_built_ins_are_entry_points_like_anybodys():
    assert {"phantom", "kriegeskorte92", "algonauts2019"} <= set(plugins.names("datasets"))
    assert "alexnet_a2020" in plugins.names("networks")
    assert {"decoding", "encoding", "rsa"} <= set(plugins.names("metrics"))
    assert plugins.find("datasets", "kriegeskorte92").__name__ == "kriegeskorte92"


def test_registered_plugins_are_found_and_listed():
    plugins.register("datasets", "mine", loader)
    assert plugins.find("datasets", "mine") is loader
    assert "mine" in plugins.names("datasets")
    assert "mine" not in plugins.names("networks")


def test_a_name_is_taken_once():
    plugins.register("datasets", "mine", loader)
    plugins.register("datasets", "mine", loader)
    with pytest.raises(ProtocolError, match=r"dataset 'mine' is registered already, by .*loader"):
        plugins.register("datasets", "mine", print)


def test_a_cell_run_twice_is_no_conflict():
    def make():
        def again():
            pass

        return again

    first, second = make(), make()
    plugins.register("metrics", "again", first)
    plugins.register("metrics", "again", second)
    assert plugins.find("metrics", "again") is second


def test_unknown_name_lists_all_and_the_nearest():
    with pytest.raises(ProtocolError, match="unknown dataset 'kriegeskort92'; did you mean 'krie"):
        plugins.find("datasets", "kriegeskort92")
    assert plugins.unknown("roi", "x", []) == "unknown roi 'x'. There are: none"
    assert plugins.unknown("n", "zz", map(str, range(50))).endswith("39, …")
