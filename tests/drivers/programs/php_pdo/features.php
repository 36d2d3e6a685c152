<?php

declare(strict_types=1);

/** A feature is run by CLIENTS processes at the same time, each with connections of its own; it counts its checks. */

const DEADLINE = 30.0;

function environment(string $name, string $otherwise): string
{
    $value = getenv($name);
    return $value === false || $value === '' ? $otherwise : $value;
}

define('CLIENTS', (int) environment('CLIENTS', '8'));
define('PREFIX', environment('PREFIX', 'php_'));

final class Failed extends RuntimeException
{
}

final class Client
{
    public int $checks = 0;

    /** @param string $shared the beginning of the names of files that the clients of a feature share */
    public function __construct(public readonly int $number, private readonly string $shared)
    {
    }

    /** A new connection; it is closed when nothing refers to it any more. */
    public function connect(string $more = '', array $attributes = []): PDO
    {
        $dsn = sprintf(
            'pgsql:host=%s;port=%s;dbname=%s;sslmode=disable%s',
            environment('PGHOST', '127.0.0.1'),
            environment('PGPORT', '5432'),
            environment('PGDATABASE', 'postgres'),
            $more === '' ? '' : ";$more",
        );
        return new PDO($dsn, environment('PGUSER', 'postgres'), environment('PGPASSWORD', ''), $attributes);
    }

    /** The name of a table of this client's own. */
    public function table(string $what): string
    {
        return PREFIX . "{$what}_{$this->number}";
    }

    public function check(bool $holds, string $what): void
    {
        if (!$holds) {
            throw new Failed($what);
        }
        $this->checks++;
    }

    public function same(mixed $actual, mixed $expected, string $what): void
    {
        $this->check($actual === $expected, substr(sprintf(
            '%s: expected %s, got %s',
            $what,
            var_export($expected, true),
            var_export($actual, true),
        ), 0, 400));
    }

    /** The step fails with this SQLSTATE; gives the exception. */
    public function fails(string $state, callable $step): PDOException
    {
        try {
            $step();
        } catch (PDOException $problem) {
            $this->same($problem->errorInfo[0] ?? (string) $problem->getCode(), $state, "SQLSTATE of: {$problem->getMessage()}");
            return $problem;
        }
        throw new Failed("no error, but $state was expected");
    }

    /**
     * For what holds state on its server from one transaction to the next: one client at a time runs the step, the others
     * run plain queries meanwhile.
     */
    public function inTurn(PDO $connection, callable $step): void
    {
        $turn = fopen("{$this->shared}.turn", 'c');
        while (!flock($turn, LOCK_EX | LOCK_NB)) {
            $this->plain($connection);
        }
        try {
            if (file_exists("{$this->shared}.failed")) {
                throw new Failed('another client failed');
            }
            $step();
        } catch (Throwable $problem) {
            touch("{$this->shared}.failed");
            throw $problem;
        } finally {
            file_put_contents("{$this->shared}.had", '.', FILE_APPEND);
            flock($turn, LOCK_UN);
        }
        do {
            $this->plain($connection);
            clearstatcache();
        } while (filesize("{$this->shared}.had") < CLIENTS && !file_exists("{$this->shared}.failed"));
    }

    private function plain(PDO $connection): void
    {
        $some = random_int(0, 999);
        $statement = $connection->prepare('SELECT ?::int + ?::int');
        $statement->execute([$some, $this->number]);
        if ((int) $statement->fetchColumn() !== $some + $this->number) {
            throw new Failed('a plain query gave a wrong answer');
        }
        usleep(3000);
    }
}

/** Run the body for each client and print the feature's line; passed over where FEATURE names another one. */
function feature(string $name, callable $body): void
{
    if (environment('FEATURE', $name) !== $name) {
        return;
    }
    $shared = tempnam(sys_get_temp_dir(), 'feature');
    file_put_contents("$shared.had", '');
    $children = [];
    for ($number = 0; $number < CLIENTS; $number++) {
        $child = pcntl_fork();
        if ($child === 0) {
            exit(work($name, $body, new Client($number, $shared), "$shared.$number"));
        }
        $children[$child] = $number;
    }
    $end = microtime(true) + DEADLINE;
    $checks = 0;
    $failure = null;
    while ($children !== []) {
        foreach ($children as $child => $number) {
            if (pcntl_waitpid($child, $status, WNOHANG) === $child) {
                unset($children[$child]);
                $said = is_file("$shared.$number") ? (string) file_get_contents("$shared.$number") : 'nothing';
                if (ctype_digit($said) && pcntl_wifexited($status) && pcntl_wexitstatus($status) === 0) {
                    $checks += (int) $said;
                } else {
                    // Who only gave up because of another says so.
                    $failure = $failure === null || str_contains($failure, 'another client failed') ? "client $number: $said" : $failure;
                }
            } elseif (microtime(true) > $end) {
                posix_kill($child, SIGKILL);
                $failure ??= "client $number did not end";
                touch("$shared.failed");
            }
        }
        usleep(2000);
    }
    array_map(unlink(...), glob("$shared*"));
    echo $failure === null ? "ok $name $checks\n" : "not ok $name " . preg_replace('/\s+/', ' ', $failure) . "\n";
}

function work(string $name, callable $body, Client $client, string $file): int
{
    try {
        $body($client);
        file_put_contents($file, (string) $client->checks);
        return 0;
    } catch (Throwable $problem) {
        $line = $problem->getLine();
        foreach ([['file' => $problem->getFile(), 'line' => $line], ...$problem->getTrace()] as $frame) {
            if (basename($frame['file'] ?? '') === 'pdo.php') {
                $line = $frame['line'];
                break;
            }
        }
        file_put_contents($file, "{$problem->getMessage()} at pdo.php:$line");
        return 1;
    }
}

/** Poll until the step gives something true. */
function eventually(callable $step, string $what): mixed
{
    $end = microtime(true) + 10;
    while (!($got = $step())) {
        if (microtime(true) > $end) {
            throw new Failed("not within 10 s: $what");
        }
        usleep(10_000);
    }
    return $got;
}

/** What an earlier run may have left. */
function dropAll(): void
{
    (new Client(0, ''))->connect()->exec(sprintf(
        <<<'SQL'
        DO $$ DECLARE it text; BEGIN
          FOR it IN SELECT quote_ident(nspname) FROM pg_namespace WHERE starts_with(nspname, '%1$s')
            LOOP EXECUTE 'DROP SCHEMA ' || it || ' CASCADE'; END LOOP;
          FOR it IN SELECT oid::regclass FROM pg_class WHERE starts_with(relname, '%1$s') AND relkind = 'r'
            LOOP EXECUTE 'DROP TABLE ' || it || ' CASCADE'; END LOOP;
        END $$
        SQL,
        PREFIX,
    ));
}
