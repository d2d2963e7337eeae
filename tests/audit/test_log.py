"""What the log promises to whoever writes into it."""

import asyncio
import os
import subprocess
import sys
import textwrap
from dataclasses import MISSING, fields, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from tests.audit.logs import a_record, open_log, write_log

from bedside.audit.events import AuditRecord, Kind, Outcome
from bedside.audit.log import HEAD, LOG
from bedside.audit.verify import verify
from bedside.core.chain import Head, head_slot, read
from bedside.core.clock import SetClock
from bedside.core.errors import BedsideError
from bedside.vault import signer

pytestmark = pytest.mark.anyio


def lines(folder: Path) -> list[bytes]:
    return (folder / LOG).read_bytes().splitlines()


async def test_every_field_of_a_record_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    samples = {"kind": Kind.OUTCOME, "outcome": Outcome.FAILED, "prompt_tokens": 12, "completion_tokens": 7}
    samples |= {"wait_ms": 0.5, "first_token_ms": 120.25, "total_ms": 900.0}
    values = {f.name: samples.get(f.name, f'{f.name} é\n"') for f in fields(AuditRecord)}
    record = AuditRecord(**values)  # type: ignore[arg-type]
    assert all(f.default is not MISSING or f.name in values for f in fields(AuditRecord))
    log = open_log(tmp_path, SetClock())
    await log.append(record)
    log.close()
    again = AuditRecord.from_fields(read(lines(tmp_path)[0]).fields)
    assert again.time == "2026-09-21T14:13:20.000Z"
    assert {**again.to_fields(), "time": record.time} == record.to_fields()


async def test_records_are_numbered_in_the_order_they_were_handed_in(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    numbers = await asyncio.gather(*(log.append(a_record(n)) for n in range(200)))
    log.close()
    assert numbers == list(range(1, 201))
    assert log.writes < 200, "many records share one durable write"
    assert [read(line).fields["request_id"] for line in lines(tmp_path)] == [f"request-{n}" for n in range(200)]


async def test_a_record_is_on_the_disk_when_its_writer_is_told(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    for n in range(1, 4):
        await log.append(a_record(n))
        assert len(lines(tmp_path)) == n
    log.close()


async def test_a_log_that_is_opened_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    for n in range(3):
        log = open_log(tmp_path)
        assert await log.append(a_record(n)) == n + 1
        log.close()
        log.close()
    assert verify(tmp_path / LOG, tmp_path / HEAD).whole


async def test_two_programs_may_append_to_one_log(tmp_path: Path) -> None:
    """The command line adds a user while the gateway runs."""
    one, other = open_log(tmp_path), open_log(tmp_path)
    for n in range(10):
        await (one if n % 2 else other).append(a_record(n))
    await asyncio.gather(*(log.append(a_record(n)) for n in range(50) for log in (one, other)))
    one.close()
    other.close()
    verdict = verify(tmp_path / LOG, tmp_path / HEAD)
    assert (verdict.whole, verdict.records) == (True, 110)


async def test_a_last_line_torn_by_a_crash_is_taken_back_because_nobody_was_told(tmp_path: Path) -> None:
    write_log_in_thread = asyncio.to_thread(write_log, tmp_path, 3)
    await write_log_in_thread
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"seq":4,"prev":"')
    log = open_log(tmp_path)
    assert await log.append(a_record()) == 4
    log.close()
    assert verify(tmp_path / LOG, tmp_path / HEAD).whole


async def test_records_after_the_last_signed_head_are_kept(tmp_path: Path) -> None:
    """After a power cut the head may be older than the log."""
    await asyncio.to_thread(write_log, tmp_path, 3)
    old = (tmp_path / HEAD).read_bytes()
    log = open_log(tmp_path)
    await log.append(a_record())
    log.close()
    (tmp_path / HEAD).write_bytes(old)
    log = open_log(tmp_path)
    assert await log.append(a_record()) == 5
    log.close()
    assert verify(tmp_path / LOG, tmp_path / HEAD).records == 5


HARMS = ["cut", "cut mid-line", "edit the last", "no head", "empty", "added without hash", "another signer"]


@pytest.mark.parametrize("harm", HARMS)
async def test_a_log_that_was_tampered_with_is_not_opened(tmp_path: Path, harm: str) -> None:
    file = await asyncio.to_thread(write_log, tmp_path, 4)
    data = file.read_bytes()
    if harm == "no head":
        (tmp_path / HEAD).unlink()
    elif harm == "another signer":
        last = read(data.splitlines()[-1])
        stranger = signer(Ed25519PrivateKey.generate())
        signature = stranger.sign(Head.signed(last.seq, last.hash, len(data)))
        (tmp_path / HEAD).write_bytes(head_slot(Head(last.seq, last.hash, len(data), stranger.key, signature)))
    else:
        kept = b"".join(data.splitlines(keepends=True)[:3])
        changed = {
            "cut": kept,
            "cut mid-line": data[:-20],
            "edit the last": data.replace(b"request-3", b"request-9"),
            "empty": b"",
            "added without hash": data + b'{"seq":5}\n',
        }
        file.write_bytes(changed[harm])
    before = file.read_bytes()
    with pytest.raises(BedsideError, match="Restore the folder") as caught:
        open_log(tmp_path)
    assert caught.value.code == "AUDIT_BROKEN"
    assert file.read_bytes() == before


async def test_a_log_cut_while_it_is_in_use_is_noticed_at_the_next_record(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.append(a_record())
    os.truncate(tmp_path / LOG, 10)
    with pytest.raises(BedsideError) as caught:
        await log.append(a_record())
    assert caught.value.code == "AUDIT_UNAVAILABLE"
    log.close()


@pytest.mark.parametrize("name", [LOG, HEAD])
async def test_a_log_that_is_moved_away_while_in_use_stops_the_work(tmp_path: Path, name: str) -> None:
    """As a program that rotates logs would do: what is written on would be found by nobody."""
    log = open_log(tmp_path)
    await log.append(a_record())
    (tmp_path / name).rename(tmp_path / "moved")
    with pytest.raises(BedsideError) as caught:
        await log.append(a_record())
    assert caught.value.code == "AUDIT_UNAVAILABLE"
    (tmp_path / "moved").rename(tmp_path / name)
    assert await log.append(a_record()) == 2
    log.close()


async def test_half_a_line_of_a_program_that_died_does_not_stop_the_others(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.append(a_record())
    with (tmp_path / LOG).open("ab") as file:
        file.write(b'{"seq":2,"prev":"')
    assert await log.append(a_record()) == 2
    log.close()
    assert verify(tmp_path / LOG, tmp_path / HEAD).whole


async def test_words_of_any_length_make_a_line_that_can_be_found_again(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    await log.append(replace(a_record(), subject="a" * 100_000, actor="\u00e9" * 100_000))
    log.close()
    log = open_log(tmp_path)
    assert await log.append(a_record()) == 2
    log.close()


async def test_a_closed_log_says_so_and_does_not_keep_anybody_waiting(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.close()
    with pytest.raises(BedsideError, match="closed"):
        await log.append(a_record())


async def test_time_does_not_run_backwards_over_a_restart(tmp_path: Path) -> None:
    clock = SetClock()
    log = open_log(tmp_path, clock)
    await log.append(a_record())
    log.close()
    clock.advance(-3)
    log = open_log(tmp_path, clock)
    await log.append(a_record())
    log.close()
    times = [read(line).fields["time"] for line in lines(tmp_path)]
    assert times == sorted(str(time) for time in times)


async def test_a_clock_that_goes_backwards_stops_the_log(tmp_path: Path) -> None:
    clock = SetClock()
    log = open_log(tmp_path, clock)
    await log.append(a_record())
    clock.advance(-2)
    await log.append(a_record())
    times = [read(line).fields["time"] for line in lines(tmp_path)]
    assert times[0] == times[1], "a small step back is smoothed"
    clock.advance(-60)
    with pytest.raises(BedsideError, match="clock went backwards"):
        await log.append(a_record())
    log.close()


@pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no limit on the size of a file to stand for a full disk"
)
def test_a_full_disk_refuses_the_record_keeps_the_log_whole_and_recovers(tmp_path: Path) -> None:
    """The size limit of the process stands for the end of the disk: the write comes back short and fails."""
    script = textwrap.dedent(
        """
        import asyncio, resource, signal, sys
        from pathlib import Path
        from bedside.core.errors import BedsideError
        from tests.audit.logs import a_record, open_log

        async def main() -> None:
            log = open_log(Path(sys.argv[1]))
            for n in range(3):
                await log.append(a_record(n))
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            size = (Path(sys.argv[1]) / "log.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(size + 100, 1100), resource.RLIM_INFINITY))
            try:
                while True:
                    await log.append(a_record())
            except BedsideError as why:
                print(why.code)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            print(await log.append(a_record()) > 3)
            log.close()

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["AUDIT_UNAVAILABLE", "True"]
    assert verify(tmp_path / LOG, tmp_path / HEAD).whole


def test_a_folder_that_cant_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "audit").mkdir()
    (tmp_path / "audit" / LOG).mkdir()
    (tmp_path / "audit" / HEAD).write_bytes(b"")
    with pytest.raises(BedsideError) as caught:
        open_log(tmp_path / "audit")
    assert caught.value.code == "DATA_FOLDER"
