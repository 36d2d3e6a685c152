// What applications do with lib/pq, through database/sql, done by many clients at once.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"

	"github.com/lib/pq"

	"programs/proof"
)

func main() {
	// The driver refuses to run with a variable of libpq that it does not know.
	os.Unsetenv("PGGSSENCMODE")
	tidy()
	proof.Run([]proof.Feature{
		{Name: "connect", Run: connects},
		{Name: "pool", Run: pools},
		{Name: "queries", Run: queriesWith("")},
		{Name: "queries-with-binary-parameters", Run: queriesWith("binary_parameters=yes")},
		{Name: "prepared", Run: prepared},
		{Name: "prepared-of-a-pool", Run: preparedOfAPool},
		{Name: "changed-table", Run: changedTable},
		{Name: "types", Run: types},
		{Name: "arrays", Run: arrays},
		{Name: "json", Run: jsons},
		{Name: "large-values", Run: largeValues},
		{Name: "many-rows", Run: manyRows},
		{Name: "several-statements", Run: severalStatements},
		{Name: "copy-in", Run: copyIn},
		{Name: "copy-in-errors", Run: copyInErrors},
		{Name: "transactions", Run: transactions},
		{Name: "savepoints", Run: savepoints},
		{Name: "isolation-levels", Run: isolationLevels},
		{Name: "serialization-failure", Run: serializationFailure},
		{Name: "cursors", Run: cursors},
		{Name: "errors", Run: serverErrors},
		{Name: "notices", Run: notices},
		{Name: "cancel-by-context", Run: cancelByContext},
		{Name: "cancel-in-a-crowd", Run: cancelInACrowd},
		{Name: "listener", Run: listener},
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
	db, err := sql.Open("postgres", "")
	if err == nil {
		defer db.Close()
		_, err = db.Exec(proof.Tidy())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// database is a pool of its own for a client, closed when that is through; PGHOST and the others add to the DSN.
func database(c *proof.Client, dsn string) *sql.DB {
	db, err := sql.Open("postgres", dsn)
	c.Must(err)
	c.Finally(func() { db.Close() })
	return db
}

// session is one connection, held for as long as the client runs.
type session struct {
	*sql.Conn
	c *proof.Client
}

func open(c *proof.Client, dsn string) session {
	return hold(c, database(c, dsn))
}

func hold(c *proof.Client, db *sql.DB) session {
	conn, err := db.Conn(c.Context)
	c.Must(err)
	c.Finally(func() { conn.Close() })
	return session{conn, c}
}

// executor is a connection, a transaction or a pool.
type executor interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// do runs a statement that has to succeed, and gives how many rows it affected.
func do(c *proof.Client, on executor, query string, args ...any) int64 {
	result, err := on.ExecContext(c.Context, query, args...)
	c.Must(err)
	count, err := result.RowsAffected()
	c.Must(err)
	return count
}

func (s session) do(query string, args ...any) int64 { return do(s.c, s, query, args...) }

// refused runs a statement that has to fail with this SQLSTATE.
func refused(c *proof.Client, on executor, code, query string, args ...any) *pq.Error {
	_, err := on.ExecContext(c.Context, query, args...)
	return fails(c, err, code)
}

// fails checks the SQLSTATE of an error and gives it.
func fails(c *proof.Client, err error, code string) *pq.Error {
	var found *pq.Error
	c.Check(errors.As(err, &found), "got the error %v instead of one from the server", err)
	c.Check(string(found.Code) == code, "got %s (%s) instead of %s", found.Code, found.Message, code)
	return found
}

// one is the value of a query for a single one.
func one[T any](c *proof.Client, on executor, query string, args ...any) T {
	var value T
	c.Must(on.QueryRowContext(c.Context, query, args...).Scan(&value))
	return value
}

// all are the values of a query for one column.
func all[T any](c *proof.Client, on executor, query string, args ...any) []T {
	rows, err := on.QueryContext(c.Context, query, args...)
	c.Must(err)
	defer rows.Close()
	var values []T
	for rows.Next() {
		var value T
		c.Must(rows.Scan(&value))
		values = append(values, value)
	}
	c.Must(rows.Err())
	return values
}

func (s session) begin(options *sql.TxOptions) *sql.Tx {
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

// setting is the value of a parameter, asked for by a transaction of its own.
func (s session) setting(name string) string {
	return one[string](s.c, s, "SELECT current_setting($1)", name)
}
