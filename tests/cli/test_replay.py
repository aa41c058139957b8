"""Every command that looks at the store records what has waited for it first."""

from __future__ import annotations

import pytest
from tests.tracking.outcomes import fingerprint_of, make_outcome

from goldfish.cli import main
from goldfish.tracking import spool
from goldfish.tracking.store import Store

COMMANDS = ["status", "status study", "explain seed=3", "export --to runs.csv", "doctor", "ui study"]


@pytest.mark.parametrize("command", COMMANDS)
def test_what_waited_is_recorded_and_told(
    store: Store, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = make_outcome(seed=1)
    about = spool.About("study", fingerprint_of(outcome), "s", "a" * 64, {})
    spool.put(store.state, about, outcome)
    monkeypatch.setattr("goldfish.tracking.ui.serve", lambda *given, **named: 0)
    assert main(command.split()) in (0, 1)  # doctor looks at more than the store
    said = capsys.readouterr()
    assert "1 outcome that had waited is recorded now" in said.out + said.err
    assert store.finished("study").keys() == {about.fingerprint}
    assert not spool.waiting(store.state)
    main(command.split())
    said = capsys.readouterr()
    assert "had waited" not in said.out + said.err
