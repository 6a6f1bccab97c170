"""Every line that a person may be told: what, where, what to do. Many are triggered, all are looked at."""

import re
import sys
from collections import Counter

import pytest

from rlaifv_jax.errors import UserError
from tests.errors import cases_eval, cases_files, cases_settings, elsewhere
from tests.errors.sites import Site, faults, site_at, sites
from tests.world import ROOT

CASES = {
    f"{kind}: {name}": case
    for kind, module in (("settings", cases_settings), ("files", cases_files), ("eval", cases_eval))
    for name, case in module.cases().items()
}


@pytest.fixture(scope="module")
def triggered(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], set[Site]]:
    """What each case says, and the places that were come by."""
    told, seen = {}, set()
    original = UserError.__init__

    def noted(self: UserError, *given: object) -> None:
        for frame in (sys._getframe(1), sys._getframe(2)):  # of who makes it, and of who has it made
            if site := site_at(frame.f_code.co_filename, frame.f_lineno):
                seen.add(site)
        original(self, *given)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UserError, "__init__", noted)
        patch.setenv("HF_HUB_OFFLINE", "1")
        for number, (name, case) in enumerate(CASES.items()):
            folder = tmp_path_factory.mktemp(f"error{number}")
            try:
                case(folder)
                told[name] = ""
            except UserError as error:
                told[name] = str(error)
            except Exception as crash:  # is no line for a person
                told[name] = f"\n{type(crash).__name__}: {crash}"
    return told, seen


def test_each_says_what_where_and_what_to_do(triggered: tuple[dict[str, str], set[Site]]) -> None:
    told, seen = triggered
    assert len(told) >= 100
    silent = [name for name, text in told.items() if not text]
    assert not silent, "nothing was said"
    bad = {name: (text, faults(text)) for name, text in told.items() if faults(text)}
    assert not bad
    assert len(seen) >= 100


@pytest.mark.parametrize("file", sorted({site.file for site in sites()}))
def test_templates(file: str) -> None:
    """Also those that nothing here triggers."""
    bad = {
        site.template: faults("", site.template)
        for site in sites()
        if site.file == file and not site.passes_on and faults("", site.template)
    }
    assert not {text: found for text, found in bad.items() if text not in elsewhere.AS_THEY_ARE}


def test_nothing_is_overlooked(triggered: tuple[dict[str, str], set[Site]]) -> None:
    """A place that is not come by here is in another test, or on a list with the reason."""
    _, seen = triggered
    every = Counter(phrase for site in sites() for phrase in set(site.phrases()))
    tests = "\n".join(file.read_text() for file in sorted((ROOT / "tests").rglob("test_*.py")))
    tests = re.sub(r"[\"']\s*\n\s*[rf]*[\"']", "", tests)  # texts that are written in pieces

    def is_tested(site: Site) -> bool:
        return any(every[phrase] <= 2 and phrase in tests for phrase in site.phrases())

    left = {site.name for site in sites() if site not in seen and not site.passes_on and not is_tested(site)}
    listed = [name for names in elsewhere.NOT_TRIGGERED.values() for name in names]
    new = [name for name in left if not name.startswith(tuple(listed))]
    assert not new, "new messages: add a case to tests/errors, or a reason"
    names = {site.name for site in sites()}
    gone = [name for name in listed if not any(each.startswith(name) for each in names)]
    assert not gone, "no longer there"
    assert set(elsewhere.AS_THEY_ARE) <= {site.template for site in sites()}
