"""Whatever is done to a log, the verifier finds it and names the first bad record."""

import random
import shutil
import tempfile
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.audit.logs import KEY, write_log

from bedside.audit.verify import Verdict, verify
from bedside.core.chain import GENESIS, HEAD_SLOT, Head, head_slot, link, read
from bedside.vault import signer

RECORDS = 12


@cache
def whole() -> tuple[list[bytes], bytes]:
    """The lines of a whole log, and its head."""
    with tempfile.TemporaryDirectory() as folder:
        write_log(Path(folder), 5)  # in two goes, so that both slots of the head are used
        log = write_log(Path(folder), RECORDS - 5)
        return log.read_bytes().splitlines(keepends=True), (log.parent / "head").read_bytes()


def judged(lines: list[bytes], head: bytes | None = None) -> Verdict:
    with tempfile.TemporaryDirectory() as folder:
        log, head_file = Path(folder) / "copy.jsonl", Path(folder) / "head"
        log.write_bytes(b"".join(lines))
        head_file.write_bytes(whole()[1] if head is None else head)
        return verify(log, head_file)


def test_a_whole_log_is_whole() -> None:
    verdict = judged(whole()[0])
    assert (verdict.whole, verdict.records, verdict.head) == (True, RECORDS, RECORDS)


@settings(deadline=None)
@given(n=st.integers(0, RECORDS - 1), at=st.integers(0, 10_000), byte=st.integers(0, 255))
def test_a_changed_byte_is_found_in_its_record(n: int, at: int, byte: int) -> None:
    lines = list(whole()[0])
    line = bytearray(lines[n])
    at %= len(line) - 1
    if line[at] == byte:
        return
    line[at] = byte
    lines[n] = bytes(line)
    verdict = judged(lines)
    assert not verdict.whole
    # A byte that makes a line end where there was none can only make it worse from this line on.
    assert verdict.first_bad == n + 1


@given(n=st.integers(0, RECORDS - 1))
@settings(deadline=None)
def test_a_removed_record_is_found_where_it_stood(n: int) -> None:
    lines = whole()[0][:n] + whole()[0][n + 1 :]
    verdict = judged(lines)
    assert not verdict.whole
    assert verdict.first_bad == n + 1


@given(order=st.permutations(range(RECORDS)))
@settings(deadline=None)
def test_any_other_order_is_found_at_its_first_difference(order: list[int]) -> None:
    verdict = judged([whole()[0][n] for n in order])
    first = next((place + 1 for place, n in enumerate(order) if n != place), None)
    assert (verdict.whole, verdict.first_bad) == (first is None, first)


@given(kept=st.integers(0, RECORDS - 1))
@settings(deadline=None)
def test_records_cut_off_the_end_are_counted(kept: int) -> None:
    verdict = judged(whole()[0][:kept])
    assert not verdict.whole
    assert verdict.first_bad == kept + 1
    assert f"{kept + 1} to {RECORDS}" in str(verdict.problem)


@given(cut=st.integers(1, 5000))
@settings(deadline=None)
def test_a_log_cut_at_any_byte_is_found(cut: int) -> None:
    data = b"".join(whole()[0])
    cut = cut % (len(data) - 1) + 1
    verdict = judged([data[:-cut]])
    assert not verdict.whole
    lines, _, rest = data[:-cut].rpartition(b"\n")
    kept = lines.count(b"\n") + bool(lines)
    # A record that lost nothing but its line end is still whole; the next one is the first that is missing.
    kept += rest + b"\n" == whole()[0][kept]
    assert verdict.first_bad == kept + 1


@given(n=st.integers(0, RECORDS), seed=st.integers())
@settings(deadline=None)
def test_a_record_put_in_between_is_found(n: int, seed: int) -> None:
    extra = link(n + 1, random.Random(seed).randbytes(32).hex(), {"action": "made up"})[0]  # noqa: S311
    lines = [*whole()[0][:n], extra, *whole()[0][n:]]
    verdict = judged(lines)
    assert (verdict.whole, verdict.first_bad) == (False, n + 1)


@given(n=st.integers(1, RECORDS))
@settings(deadline=None)
def test_history_written_anew_with_good_hashes_is_found_by_the_signed_head(n: int) -> None:
    """Whoever can write the file can make a chain that fits; only the key can sign its end."""
    lines, prev = [], GENESIS
    for old in (read(line.rstrip(b"\n")) for line in whole()[0]):
        fields = {**old.fields, "actor": "somebody else"} if old.seq >= n else old.fields
        line, prev = link(old.seq, prev, fields)
        lines.append(line)
    assert not judged(lines).whole


def test_a_head_signed_by_another_key_shows_its_key_so_that_it_can_be_compared() -> None:
    stranger = signer(Ed25519PrivateKey.generate())
    last = read(whole()[0][-1].rstrip(b"\n"))
    end = len(b"".join(whole()[0]))
    signature = stranger.sign(Head.signed(last.seq, last.hash, end))
    verdict = judged(whole()[0], head_slot(Head(last.seq, last.hash, end, stranger.key, signature)))
    assert verdict.key == stranger.key


def test_a_changed_head_is_found() -> None:
    changed = whole()[1].replace(b'"seq": 12', b'"seq": 11')
    assert "head" in str(judged(whole()[0], changed).problem)


def test_a_head_torn_by_a_power_cut_leaves_the_one_before() -> None:
    torn = bytearray(whole()[1])
    newest = 0 if RECORDS % 2 == 0 else 1
    torn[newest * HEAD_SLOT + 40 : newest * HEAD_SLOT + 400] = b"\0" * 360
    verdict = judged(whole()[0], bytes(torn))
    assert verdict.whole


@pytest.mark.parametrize("head", [b"", b"nonsense" * 128])
def test_a_log_whose_head_is_gone_is_not_whole(head: bytes) -> None:
    """Nobody could say then whether records were cut off its end."""
    assert "head" in str(judged(whole()[0][:3], head).problem)


def test_a_head_signed_by_a_key_that_is_not_the_sites_is_refused(tmp_path: Path) -> None:
    """Whoever can write both files can sign any history with a key of their own."""
    log = write_log(tmp_path, 3)
    assert verify(log, tmp_path / "head", keys={signer(KEY).key}).whole
    stranger = {signer(Ed25519PrivateKey.generate()).key}
    assert "not this site's" in str(verify(log, tmp_path / "head", keys=stranger).problem)


def test_a_checkpoint_kept_elsewhere_finds_a_log_and_head_that_were_both_replaced(tmp_path: Path) -> None:
    log = write_log(tmp_path / "first", 5)
    kept = (5, read(log.read_bytes().splitlines()[-1]).hash)
    assert verify(log, log.parent / "head", kept).whole
    shutil.rmtree(tmp_path / "first")
    log = write_log(tmp_path / "first", 8)
    verdict = verify(log, log.parent / "head", kept)
    assert (verdict.whole, verdict.first_bad) == (False, 5)
    short = write_log(tmp_path / "second", 3)
    assert verify(short, short.parent / "head", kept).first_bad == 4


def test_verifying_writes_nothing(tmp_path: Path) -> None:
    log = write_log(tmp_path, 3)
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    verify(log, tmp_path / "head")
    assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()} == before
