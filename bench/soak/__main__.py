"""Put a pooler among clients of all kinds and every trouble, and look whether all is as it should be.

python -m bench.soak                          # five minutes
python -m bench.soak --minutes 60 --workers 2 --seed 7
python -m bench.soak --pgdoorman "python pgdoorman.py"

psycopg, asyncpg, pg8000 and pgbench, as far as they are installed, go through proxies that delay, cut, reset and forget
their connections; servers are terminated, PostgreSQL is restarted, workers are killed, the pooler is reloaded and
upgraded. Every answer has a token of its question, every commit that was told is looked for in a table. The last part
of the time goes without upgrades and killed workers, so that memory can be compared. Exit code 1 when something was
wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from fault_proxy import Mischief, Proxy

from bench.__main__ import default_command
from bench.soak.crews import Crew, all_rest, make_crews
from bench.soak.ground import MIX, POOLS, ROUGH, TIGHT, Pooler, make_postgres
from bench.soak.trouble import ALL, Trouble
from bench.soak.verdict import Quiet, Verdict
from bench.soak.watch import Watch, differences, shown

#: The part of the time in which processes come and go.
STORM = 0.6
#: Seconds between two acts of trouble on average, between two quiet moments, and for which one lasts at most.
TROUBLE, QUIET, AGREE = 2.0, 12.0, 20.0
#: Seconds between two acts of mischief on the connections of the pool with the proxy.
MISCHIEF = 6.0
#: Before each piece that goes through that proxy, seconds.
DELAY = 0.001


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    with ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="soak-"))
        directory.chmod(0o755)
        postgres = make_postgres(directory)
        stack.callback(postgres.remove)
        proxy = Proxy((postgres.host, postgres.port))
        stack.callback(proxy.close)
        proxy.delay = DELAY
        ports = {MIX: postgres.port, TIGHT: postgres.port, ROUGH: proxy.port}
        pooler = Pooler(shlex.split(options.pgdoorman), directory, options.workers, ports)
        stack.callback(pooler.kill)
        pooler.start()
        crews = make_crews(pooler.port, options.seed, options.clients)
        for crew in crews:
            stack.callback(crew.kill)
        watch = Watch(postgres, proxy.port)
        watch.start()
        stack.callback(watch.stop)
        trouble = Trouble(pooler, postgres, watch, options.seed, options.without)
        verdict = Verdict()
        try:
            with Mischief(proxy, options.seed, ("cut", "drop", "hold", "crumbs"), MISCHIEF) as mischief:
                chance = random.Random(options.seed)
                run(options.minutes * 60, pooler, crews, watch, mischief, trouble, verdict, chance)
            reports = [crew.end() for crew in crews]
            if pooler.running:
                verdict.quiet.append(quiet(0, [], pooler, watch, verdict))
            verdict.judge(reports, trouble, watch, pooler, postgres)
        except KeyboardInterrupt:
            verdict.wrong.append("interrupted")
            reports = []
        print(f"\n{verdict.report(reports, trouble, mischief, watch, POOLS)}")
        for text in verdict.wrong:
            print(f"WRONG: {text}")
        print("something was wrong" if verdict.wrong else "all was as it should be")
        if verdict.wrong:
            kept = Path(tempfile.gettempdir(), f"soak-{os.getpid()}.log")
            shutil.copy(pooler.log_path, kept)
            print(f"pgdoorman's log: {kept}")
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        return int(bool(verdict.wrong))


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    without = f"troubles to leave out, to find what one has to do with something: {', '.join(sorted(ALL))}"
    parser.add_argument("--minutes", type=float, default=5.0, help="default 5")
    parser.add_argument("--workers", type=int, default=1, help="worker_threads (default 1)")
    parser.add_argument("--clients", type=int, default=40, help="about so many (default 40)")
    parser.add_argument("--seed", type=int, default=1, help="what is done, and in which order (default 1)")
    parser.add_argument("--without", nargs="+", default=[], choices=sorted(ALL), metavar="TROUBLE", help=without)
    parser.add_argument("--pgdoorman", default=default_command(), metavar="COMMAND", help="how it is started")
    return parser.parse_args(arguments)


def run(
    seconds: float,
    pooler: Pooler,
    crews: Sequence[Crew],
    watch: Watch,
    mischief: Mischief,
    trouble: Trouble,
    verdict: Verdict,
    chance: random.Random,
) -> None:
    """Trouble and quiet moments in turn until the time is over."""
    began = time.monotonic()
    next_quiet = began + QUIET
    while (passed := time.monotonic() - began) < seconds and pooler.running:
        storm = passed < seconds * STORM
        if time.monotonic() < next_quiet:
            time.sleep(chance.uniform(0.2, 1.8) * TROUBLE)
            trouble.step(storm)
        else:
            mischief.resting = True
            verdict.quiet.append(quiet(passed, crews, pooler, watch, verdict, storm))
            mischief.resting = False
            next_quiet = time.monotonic() + QUIET
            last = verdict.quiet[-1]
            print(f"soak: {passed / 60:.1f} min, {last}", file=sys.stderr, flush=True)
    if not pooler.running:
        verdict.wrong.append(f"pgdoorman has ended by itself:\n{pooler.log_text()[-2000:]}")


def quiet(
    passed: float, crews: Sequence[Crew], pooler: Pooler, watch: Watch, verdict: Verdict, storm: bool = False
) -> Quiet:
    """Have everybody rest, compare what the console says with what is, and weigh the pooler."""
    if busy := all_rest(crews):
        verdict.wrong += busy
        print("\n".join(shown(pooler)), file=sys.stderr)
    deadline = time.monotonic() + AGREE
    while differ := differences(pooler, watch):
        if time.monotonic() > deadline:
            verdict.wrong += [f"{text}, {AGREE:.0f} s behind the last operation" for text in differ]
            break
        time.sleep(0.1)
    found = Quiet(
        passed,
        storm,
        pooler.upgrades,
        pooler.memory_kib(),
        len(pooler.open_files()),
        *pooler.connections(),
    )
    for crew in crews:
        crew.tell("go")
    return found


if __name__ == "__main__":
    sys.exit(main())
