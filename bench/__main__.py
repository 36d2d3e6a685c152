"""Compare pgdoorman, other poolers and a direct connection in interleaved rounds; prints Markdown tables.

python -m bench                                     # all cases, against the installed pgbouncer and PostgreSQL
python -m bench --only simple-40 --rounds 7
python -m bench --pgdoorman new=./pgdoorman --pgdoorman old=../old/pgdoorman
python -m bench --workers 2 1 --only simple-40 simple-120 four    # each pooler with two workers, and with one
python -m bench --only idle start                    # 10,000 idle clients beside 100; from start to the first answer
python -m bench --postgres-port 5999 --other 127.0.0.1:6543:1234:odyssey
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shlex
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from throwaway_postgres import ThrowawayPostgres

from bench import copying, idle, listening, report, tasks
from bench.clients import kib_per_client, start_to_answer
from bench.load import MEGABYTES_10, PIPELINE_10, ROWS_100, UPDATE, Case, LoadFailed, Sample, run
from bench.targets import (
    DATABASE,
    FOUR_DATABASE,
    FOUR_POOL_SIZE,
    PASSWORD,
    POOL_SIZE,
    SCRAM_DATABASE,
    SCRAM_USER,
    SESSION_DATABASE,
    SMALL_DATABASE,
    SMALL_POOL_SIZE,
    UNIX_DATABASE,
    USER,
    Direct,
    External,
    PgBouncer,
    Pgdoorman,
    Started,
    Target,
    find_pgbouncer,
    start_postgres,
)

ROOT = Path(__file__).resolve().parent.parent

CASES = (
    *(Case(f"simple-{clients}", "simple", clients) for clients in (1, 40, 120, 1000)),
    *(Case(f"extended-{clients}", "extended", clients) for clients in (1, 40, 120, 1000)),
    *(Case(f"prepared-{clients}", "prepared", clients) for clients in (1, 40, 120, 1000)),
    *(Case(f"four-{protocol}-40", protocol, 40, database=FOUR_DATABASE) for protocol in ("simple", "prepared")),
    Case("rows100-40", "simple", 40, ROWS_100),
    Case("megabytes10-4", "simple", 4, MEGABYTES_10),
    Case("pipeline10-40", "extended", 40, PIPELINE_10),
    Case("pipeline10-prepared-40", "prepared", 40, PIPELINE_10),
    Case("update-40", "simple", 40, UPDATE),
    Case("unix-40", "simple", 40, database=UNIX_DATABASE),
    Case("tls-40", "simple", 40, tls=True),
    Case("copy-out-4", copying.PROTOCOL, 4, copying.OUT),
    Case("copy-in-4", copying.PROTOCOL, 4, copying.IN),
    Case("listen-40", listening.PROTOCOL, 40, listening.NOTIFY, database=SESSION_DATABASE),
    Case("reconnect-10", "simple", 10, reconnect=True),
    Case("reconnect-scram-10", "simple", 10, reconnect=True, database=SCRAM_DATABASE, user=SCRAM_USER),
    Case("reconnect-tls-10", "simple", 10, reconnect=True, tls=True),
    # What may leave something on its server, and what it leaves being known.
    Case("asked-settings-40", "simple", 40, "SELECT set_config('work_mem', '5MB', false);\n"),
    Case("asked-locks-40", "simple", 40, "SELECT pg_advisory_lock(:client_id), pg_advisory_unlock(:client_id);\n"),
    # The pool of an application, with and without what it sends when a connection comes back.
    *(
        Case(f"pool-{name}", tasks.PROTOCOL, 8, operation, database=SMALL_DATABASE, reset=reset)
        for name, operation, reset in (
            ("plain", "SELECT 1", ""),
            ("asyncpg", "SELECT 1", tasks.ASYNCPG_RESET),
            ("discard", "SELECT 1", "DISCARD ALL"),
            ("sets-reset", "SET work_mem = '5MB'\nSET lock_timeout = '9s'\nSELECT 1", "RESET ALL"),
        )
    ),
)
MEMORY, IDLE, START = "memory", "idle", "start"
STARTS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    cases = [case for case in CASES if wanted(case.name, options.only)]
    with ExitStack() as stack:
        # In /tmp: PgBouncer does not run as root, and has to get at its files.
        directory = Path(tempfile.mkdtemp(prefix="bench-"))
        directory.chmod(0o755)
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        postgres = start_postgres(directory, options.postgres_port, options.postgres_version)
        stack.callback(postgres.remove)
        targets = make_targets(options, directory, postgres)
        for target in targets:
            stack.callback(target.stop)
        print(
            f"{platform.system()} {platform.release()}, {os.cpu_count()} cores; transaction mode, pool of {POOL_SIZE},"
        )
        print(
            f"MD5; {options.rounds} interleaved rounds of {options.seconds} s: "
            + "; ".join(t.description for t in targets)
        )
        results = measure(targets, cases, options.rounds, options.seconds)
        names, case_names = [target.name for target in targets], [case.name for case in cases]
        if cases:
            for make in (report.cpu_table, report.speed_table, report.latency_table):
                print("\n" + make(results, case_names, names))
        if wanted(MEMORY, options.only):
            count = min(options.idle_clients, hard - 200)
            print("\n" + report.memory_table(measure_memory(targets, count), count))
        if wanted(IDLE, options.only):
            count = idle.most_clients()
            print("\n" + idle.report(measure_idle(targets, count, options.rounds, options.seconds), count))
        if wanted(START, options.only):
            print("\n" + report.start_table(measure_starts(targets)))
        if options.json:
            samples = [{"case": c, "target": t, **asdict(s)} for (c, t), found in results.items() for s in found]
            options.json.parent.mkdir(parents=True, exist_ok=True)
            options.json.write_text(json.dumps(samples, indent=1))
    return 0


def wanted(name: str, only: Sequence[str] | None) -> bool:
    return not only or any(name.startswith(word) for word in only)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"An --other pooler must lend {POOL_SIZE} servers by transaction for database {DATABASE} ("
        f"{SMALL_POOL_SIZE} for {SMALL_DATABASE}, {FOUR_POOL_SIZE} for {FOUR_DATABASE}), user {USER}, password "
        f"{PASSWORD} (MD5; {SCRAM_USER} by SCRAM for {SCRAM_DATABASE}, which is {DATABASE}, as are {UNIX_DATABASE}, by "
        f"PostgreSQL's unix socket, and {SESSION_DATABASE}, by session), "
        f"from PostgreSQL on --postgres-port. Cases: {' '.join(names_of_cases())}",
    )
    parser.add_argument("--only", nargs="+", metavar="CASE", help="cases to run, by the beginning of their names")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4, help="measured in each round (default 4)")
    parser.add_argument("--idle-clients", type=int, default=2000, help="for the case memory (default 2000)")
    parser.add_argument("--pgdoorman", action="append", metavar="[NAME=]COMMAND", help="may be given several times")
    parser.add_argument(
        "--workers",
        type=int,
        nargs="+",
        default=[1],
        metavar="N",
        help="worker_threads of pgdoorman, processes of PgBouncer (default 1); with several numbers, each pooler is"
        " measured with each, as NAME-N",
    )
    parser.add_argument("--no-pgbouncer", action="store_true", help="even if it is installed")
    parser.add_argument("--other", action="append", default=[], metavar="HOST:PORT:PID[:NAME]", help="a running pooler")
    parser.add_argument(
        "--postgres-port", type=int, default=0, help="where PostgreSQL is to listen (default: a free port)"
    )
    parser.add_argument("--postgres-version", type=int, help="major version (default: the best installed)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples there, too")
    options = parser.parse_args(arguments)
    unknown = [word for word in options.only or () if not any(name.startswith(word) for name in names_of_cases())]
    if unknown:
        parser.error(f"no case begins with {', '.join(unknown)}")
    if min(options.workers) < 1 or len(set(options.workers)) < len(options.workers):
        parser.error("--workers takes different numbers from 1")
    return options


def names_of_cases() -> list[str]:
    return [*(case.name for case in CASES), MEMORY, IDLE, START]


def make_targets(options: argparse.Namespace, directory: Path, postgres: ThrowawayPostgres) -> list[Target]:
    """pgdoorman first, PostgreSQL itself last: ratios are of the first to each of the others."""
    targets: list[Target] = []

    def named(name: str, workers: int) -> str:
        return f"{name}-{workers}" if len(options.workers) > 1 else name

    for text in options.pgdoorman or [default_command()]:
        name, equals, command = text.partition("=")
        if not equals or "/" in name or " " in name:
            name, command = "pgdoorman", text
        for workers in options.workers:
            words = shlex.split(command)
            targets.append(Pgdoorman(named(name, workers), words, directory, postgres, workers))
    program = None if options.no_pgbouncer else find_pgbouncer()
    if program:
        for workers in options.workers:
            targets.append(PgBouncer(named("pgbouncer", workers), program, directory, postgres, workers))
    targets += [External(text) for text in options.other]
    return [*targets, Direct(postgres)]


def default_command() -> str:
    """The pgdoorman installed with this Python, else the one on PATH, else the source tree."""
    beside = Path(sys.executable).with_name("pgdoorman")
    found = str(beside) if beside.exists() else shutil.which("pgdoorman")
    return shlex.quote(found) if found else shlex.join([sys.executable, str(ROOT / "pgdoorman.py")])


def possible(target: Target, case: Case) -> bool:
    if case.protocol == "prepared" and not target.prepared:
        return False
    if case.protocol == tasks.PROTOCOL and not tasks.available():
        return False
    if case.tls and not target.tls:
        return False
    if not isinstance(target, Direct):
        return True
    return case.database not in (SCRAM_DATABASE, UNIX_DATABASE, SESSION_DATABASE) and case.clients <= target.max_clients


def measure(
    targets: Sequence[Target], cases: Sequence[Case], rounds: int, seconds: int
) -> dict[tuple[str, str], list[Sample]]:
    """All samples. Each round takes every target once, starting with another, so that drift hits all alike."""
    results: dict[tuple[str, str], list[Sample]] = {}
    for target in targets:
        target.start()
    for case in cases:
        able = [target for target in targets if possible(target, case)]
        if not able:
            print(f"bench: {case.name} needs {case.protocol}, which is not installed", file=sys.stderr)
        for number in range(rounds):
            shift = number % len(able)
            for target in able[shift:] + able[:shift]:
                samples = results.setdefault((case.name, target.name), [])
                try:
                    if case.protocol == tasks.PROTOCOL:
                        samples.append(tasks.run(target, case, seconds))
                    elif case.protocol == copying.PROTOCOL:
                        samples.append(copying.run(target, case, seconds))
                    elif case.protocol == listening.PROTOCOL:
                        samples.append(listening.run(target, case, seconds))
                    else:
                        samples.append(run(target, case, seconds, samples[-1].tps if samples else 10_000))
                except LoadFailed as problem:
                    print(f"bench: {problem}", file=sys.stderr)
                    target.start()  # again, if that was its end
        show_progress(case, {target.name: results[case.name, target.name] for target in able})
    return results


def show_progress(case: Case, samples: dict[str, list[Sample]]) -> None:
    best = ", ".join(
        f"{name} {max(s.tps for s in found):,.0f} tps" + (f" {min(cpu):.1f} µs" if cpu else "")
        for name, found in samples.items()
        if found
        for cpu in [[s.cpu for s in found if s.cpu is not None]]
    )
    print(f"bench: {case.name}: {best}", file=sys.stderr, flush=True)


def measure_memory(targets: Sequence[Target], count: int) -> dict[str, float]:
    """KiB per idle client. Our own poolers are restarted first: memory that the load left free would hide the cost."""
    figures = {}
    for target in targets:
        if isinstance(target, Direct):
            continue
        target.stop()
        target.start()
        figures[target.name] = kib_per_client(target, count)
        print(f"bench: memory: {target.name} {figures[target.name]:.1f} KiB per client", file=sys.stderr, flush=True)
    return figures


def measure_idle(targets: Sequence[Target], count: int, rounds: int, seconds: int) -> dict[str, list[idle.Beside]]:
    """All rounds by pooler, each starting with another."""
    poolers = [target for target in targets if isinstance(target, Started)]
    results: dict[str, list[idle.Beside]] = {target.name: [] for target in poolers}
    for number in range(rounds):
        shift = number % len(poolers)
        for target in poolers[shift:] + poolers[:shift]:
            found = idle.measure(target, count, seconds)
            results[target.name].append(found)
            text = f"p99 {found.alone.p99:.2f} and {found.beside.p99:.2f} ms, {found.kib:.1f} KiB per client"
            print(f"bench: idle: {target.name} {text}", file=sys.stderr, flush=True)
    return results


def measure_starts(targets: Sequence[Target]) -> dict[str, float]:
    """Seconds, the least of STARTS, interleaved."""
    poolers = [target for target in targets if isinstance(target, Started)]
    rounds = [{target.name: start_to_answer(target) for target in poolers} for _ in range(STARTS)]
    return {target.name: min(found[target.name] for found in rounds) for target in poolers}


if __name__ == "__main__":
    sys.exit(main())
