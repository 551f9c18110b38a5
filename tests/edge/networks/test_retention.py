"""How epochs end: when, what is left of them, and that nothing of them can be made or fetched again."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_network_boxes import Box, Founder, Reader, categories, stopped_at_the_end
from support_shared import DAY_MS, NOW, WEEK_NOW

from edge.clock import ClockQuality, WallTime
from edge.crypto.hashing import discovery_key
from edge.errors import ConfigError
from edge.networks import retention
from edge.networks.feeds import feeds_of
from edge.networks.policy import NetworkPolicy


def weeks_later(weeks: int, quality: ClockQuality = ClockQuality.SYNCED) -> WallTime:
    return WallTime(NOW.ms + weeks * 7 * DAY_MS, quality)


@given(
    st.dictionaries(st.integers(1, 9), st.integers(0, 50)),
    st.sets(st.integers(1, 9)),
    st.integers(1, 9),
    st.integers(0, 60),
    st.integers(1, 20),
)
def test_notes_cover_closed_epochs_alone_and_end_no_earlier_than_allowed(
    closed: dict[int, int], known: set[int], current: int, week: int, keep: int
) -> None:
    after = retention.noted(closed, known, current, week)
    assert set(after) == {epoch for epoch in known if epoch < current}
    assert all(since <= week for since in after.values())
    assert retention.noted(after, known, current, week + 5) == after  # the first week that it was seen closed
    for epoch in retention.due(after, keep, week):
        assert epoch < current
        assert week - after[epoch] >= keep


def test_a_clock_without_a_date_ends_nothing() -> None:
    assert retention.week_at(NOW) == WEEK_NOW
    assert retention.week_at(WallTime(NOW.ms, ClockQuality.FREE)) == WEEK_NOW
    assert retention.week_at(WallTime(NOW.ms, ClockQuality.FLOOR)) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"version": 2, "closed": {}}', '{"version": 1, "closed": {"x": 1}}'])
def test_a_damaged_note_only_keeps_epochs_longer(tmp_path: Path, text: str) -> None:
    retention.save(tmp_path, {3: 2900, 11: 2950})
    assert retention.load(tmp_path) == {3: 2900, 11: 2950}
    (tmp_path / "closed-epochs.json").write_text(text)
    assert retention.load(tmp_path) == {}


async def test_a_closed_epoch_is_cleared_and_its_secret_destroyed(tmp_path: Path) -> None:
    a, b = await Founder.found(tmp_path / "a", policy=NetworkPolicy(keep_weeks=20)), Box(tmp_path / "b")
    async with stopped_at_the_end(a, b):
        await a.start()
        await a.admit(b)
        await b.start(a)
        await a.say("old of a")
        await b.say("old of b")
        await a.heard(1)
        await b.heard(1)
        roster = a.running.roster
        assert roster is not None
        keys = list(feeds_of(roster, a.folder.epochs()))
        first = a.folder.epochs()[1]
        await a.rotate()
        await a.say("new of a")
        assert sorted(categories(await b.heard(2))) == ["new of a", "old of a"]

        assert await a.running.retain() == []
        a.clock.at = weeks_later(19)
        assert await a.running.retain() == []
        a.clock.at = weeks_later(30, ClockQuality.FLOOR)
        assert await a.running.retain() == []
        a.clock.at = weeks_later(20)
        assert await a.running.retain() == [1]
        assert set(a.folder.epochs()) == {2}
        store = a.store_directory / "feeds"
        assert not any((store / discovery_key(key).hex()).exists() for key in keys)
        text = "".join(path.read_text(errors="ignore") for path in a.folder.directory.rglob("*key*") if path.is_file())
        assert first.encryption_key.hex() not in text
        assert await Reader(a.running).take() == []  # of b there is nothing in the new epoch
        with pytest.raises(ConfigError):
            await a.running.store.get(key=keys[0], create=False)

        await a.stop()  # and a restart brings nothing back
        await a.start()
        assert set(a.folder.epochs()) == {2}
        assert await a.running.retain() == []
        await a.say("still writing")
        assert sorted(categories(await b.heard(3))) == ["new of a", "old of a", "still writing"]
        document = json.loads((a.folder.directory / "closed-epochs.json").read_text())
        assert document["version"] == 1
