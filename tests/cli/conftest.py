"""The command line called in this process."""

import json

import pytest

from logicpim.cli import main


class Result:
    """Status, stdout and stderr of one call."""

    def __init__(self, status, captured):
        self.status, self.out, self.err = status, captured.out, captured.err

    @property
    def json(self):
        """The one object on stdout."""
        assert self.status == 0, self.err
        assert self.out.count("\n") == 1 and self.out.endswith("}\n")
        return json.loads(self.out)

    def failed(self, *words):
        """As refused, but after work whose progress is on stderr, too."""
        assert self.status == 2 and self.out == "", (self.status, self.out)
        last = self.err.splitlines()[-1]
        assert "error: " in last and all(word in last for word in words), self.err

    def refused(self, *words):
        """One line with all the words on stderr, nothing on stdout, a status that says so."""
        assert self.status == 2 and self.out == "", (self.status, self.out)
        assert self.err.count("\n") == 1 and self.err.endswith("\n"), self.err
        assert self.err.startswith("logicpim") and "error: " in self.err, self.err
        assert all(word in self.err for word in words), self.err


@pytest.fixture
def logicpim(capsys, tmp_path, monkeypatch):
    """Calls the command line in an empty folder of its own."""
    monkeypatch.chdir(tmp_path)

    def call(*argv):
        try:
            status = main([str(word) for word in argv])
        except SystemExit as stop:
            status = stop.code
        return Result(status, capsys.readouterr())
    return call
