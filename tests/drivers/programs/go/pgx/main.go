// What applications do with pgx, alone and by its pool, done by many clients at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"programs/proof"
)

func main() {
	tidy()
	proof.Run([]proof.Feature{
		{Name: "connect", Run: connects},
		{Name: "pool", Run: pools},
		{Name: "exec-mode-cache-statement", Run: inMode(pgx.QueryExecModeCacheStatement)},
		{Name: "exec-mode-cache-describe", Run: inMode(pgx.QueryExecModeCacheDescribe)},
		{Name: "exec-mode-describe-exec", Run: inMode(pgx.QueryExecModeDescribeExec)},
		{Name: "exec-mode-exec", Run: inMode(pgx.QueryExecModeExec)},
		{Name: "exec-mode-simple-protocol", Run: inMode(pgx.QueryExecModeSimpleProtocol)},
		{Name: "prepared-names", Run: preparedNames},
		{Name: "small-statement-cache", Run: smallCache},
		{Name: "changed-table", Run: changedTable},
		{Name: "types", Run: types},
		{Name: "arrays", Run: arrays},
		{Name: "json", Run: jsons},
		{Name: "own-types", Run: ownTypes},
		{Name: "large-values", Run: largeValues},
		{Name: "many-rows", Run: manyRows},
		{Name: "several-statements", Run: severalStatements},
		{Name: "batch", Run: batches},
		{Name: "batch-errors", Run: batchErrors},
		{Name: "pipeline", Run: pipelines},
		{Name: "copy-from", Run: copyFrom},
		{Name: "copy-raw", Run: copyRaw},
		{Name: "transactions", Run: transactions},
		{Name: "savepoints", Run: savepoints},
		{Name: "isolation-levels", Run: isolationLevels},
		{Name: "serialization-failure", Run: serializationFailure},
		{Name: "cursors", Run: cursors},
		{Name: "large-objects", Run: largeObjects},
		{Name: "errors", Run: serverErrors},
		{Name: "notices", Run: notices},
		{Name: "cancel-by-context", Run: cancelByContext},
		{Name: "cancel-in-a-crowd", Run: cancelInACrowd},
		{Name: "listen", Run: listens},
		{Name: "startup-parameters", Run: startupParameters},
		{Name: "set", Run: settings},
		{Name: "set-config", Run: setConfig},
		{Name: "search-path", Run: searchPath},
		{Name: "role", Run: role},
		{Name: "session-characteristics", Run: sessionCharacteristics},
		{Name: "temp-tables", Run: tempTables},
		{Name: "temp-tables-of-a-transaction", Run: tempTablesOfATransaction},
		{Name: "advisory-locks", Run: advisoryLocks},
		{Name: "advisory-locks-of-a-transaction", Run: advisoryLocksOfATransaction},
		{Name: "with-hold-cursor", Run: withHoldCursor},
		{Name: "sql-prepare", Run: sqlPrepare},
	})
	tidy()
}

func tidy() {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, "")
	if err == nil {
		defer conn.Close(ctx)
		_, err = conn.Exec(ctx, proof.Tidy())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// session is a connection of one client, with shorter names for what every feature does.
type session struct {
	*pgx.Conn
	c *proof.Client
}

// open connects as PGHOST and the others say, and closes when the client is through.
func open(c *proof.Client, changes ...func(*pgx.ConnConfig)) session {
	config, err := pgx.ParseConfig("")
	c.Must(err)
	for _, change := range changes {
		change(config)
	}
	conn, err := pgx.ConnectConfig(c.Context, config)
	c.Must(err)
	c.Finally(func() { conn.Close(context.Background()) })
	return session{conn, c}
}

// do runs a statement that has to succeed, and gives its command tag.
func (s session) do(sql string, args ...any) string {
	tag, err := s.Exec(s.c.Context, sql, args...)
	s.c.Must(err)
	return tag.String()
}

// begin starts a transaction.
func (s session) begin(options pgx.TxOptions) pgx.Tx {
	tx, err := s.BeginTx(s.c.Context, options)
	s.c.Must(err)
	return tx
}

// plain is a query that needs nothing of its server.
func (s session) plain() {
	if got := one[int](s.c, s, "SELECT $1::int + 1", s.c.Number); got != s.c.Number+1 {
		s.c.Check(false, "got %d instead of %d", got, s.c.Number+1)
	}
}

// fails checks the SQLSTATE of an error and gives it.
func fails(c *proof.Client, err error, code string) *pgconn.PgError {
	var found *pgconn.PgError
	c.Check(errors.As(err, &found), "got the error %v instead of one from the server", err)
	c.Check(found.Code == code, "got %s (%s) instead of %s", found.Code, found.Message, code)
	return found
}

// queryer is a connection, a transaction or a pool.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// one is the value of a query for a single one.
func one[T any](c *proof.Client, from queryer, sql string, args ...any) T {
	rows, err := from.Query(c.Context, sql, args...)
	c.Must(err)
	value, err := pgx.CollectExactlyOneRow(rows, pgx.RowTo[T])
	c.Must(err)
	return value
}

// all are the values of a query for one column.
func all[T any](c *proof.Client, from queryer, sql string, args ...any) []T {
	rows, err := from.Query(c.Context, sql, args...)
	c.Must(err)
	values, err := pgx.CollectRows(rows, pgx.RowTo[T])
	c.Must(err)
	return values
}

// setting is the value of a parameter, asked for by a transaction of its own.
func (s session) setting(name string) string {
	return one[string](s.c, s, "SELECT current_setting($1)", name)
}
