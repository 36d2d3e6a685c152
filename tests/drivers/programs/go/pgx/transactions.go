package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"

	"programs/proof"
)

func transactions(c *proof.Client) {
	s := open(c)
	table := c.Name("accounts")
	s.do("CREATE TABLE " + table + " (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, balance int)")
	s.do("INSERT INTO " + table + " VALUES (1, 100), (2, 100)")
	for range 10 {
		c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
			pid := one[int](c, tx, "SELECT pg_backend_pid()")
			for _, change := range []string{"- 5 WHERE id = 1", "+ 5 WHERE id = 2"} {
				_, err := tx.Exec(c.Context, "UPDATE "+table+" SET balance = balance "+change)
				c.Must(err)
			}
			proof.Equal(c, one[int](c, tx, "SELECT pg_backend_pid()"), pid)
			return nil
		}))
	}
	proof.Equal(c, all[int](c, s, "SELECT balance FROM "+table+" ORDER BY id"), []int{50, 150})

	tx := s.begin(pgx.TxOptions{})
	_, err := tx.Exec(c.Context, "DELETE FROM "+table)
	c.Must(err)
	c.Must(tx.Rollback(c.Context))
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 2)
	c.Check(errors.Is(tx.Commit(c.Context), pgx.ErrTxClosed), "a transaction was committed after its end")

	// What failed is rolled back by its commit.
	tx = s.begin(pgx.TxOptions{})
	_, err = tx.Exec(c.Context, "SELECT 1 / 0")
	fails(c, err, "22012")
	proof.Equal(c, s.PgConn().TxStatus(), byte('E'))
	_, err = tx.Exec(c.Context, "SELECT 1")
	fails(c, err, "25P02")
	c.Check(errors.Is(tx.Commit(c.Context), pgx.ErrTxCommitRollback), "a failed transaction was committed")

	// A constraint that is looked at when the transaction is committed.
	tx = s.begin(pgx.TxOptions{})
	_, err = tx.Exec(c.Context, "INSERT INTO "+table+" VALUES (1, 0)")
	c.Must(err)
	fails(c, tx.Commit(c.Context), "23505")
	proof.Equal(c, s.PgConn().TxStatus(), byte('I'))
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 2)
	s.do("DROP TABLE " + table)
}

func savepoints(c *proof.Client) {
	s := open(c)
	table := c.Name("nested")
	s.do("CREATE TABLE " + table + " (a int PRIMARY KEY)")
	for range 5 {
		outer := s.begin(pgx.TxOptions{})
		insert := func(tx pgx.Tx, a int) error {
			_, err := tx.Exec(c.Context, "INSERT INTO "+table+" VALUES ($1)", a)
			return err
		}
		c.Must(insert(outer, 1))
		inner, err := outer.Begin(c.Context)
		c.Must(err)
		c.Must(insert(inner, 2))
		innermost, err := inner.Begin(c.Context)
		c.Must(err)
		fails(c, insert(innermost, 1), "23505")
		c.Must(innermost.Rollback(c.Context))
		c.Must(insert(inner, 3))
		c.Must(inner.Commit(c.Context))
		second, err := outer.Begin(c.Context)
		c.Must(err)
		c.Must(insert(second, 4))
		c.Must(second.Rollback(c.Context))
		proof.Equal(c, all[int](c, outer, "SELECT a FROM "+table+" ORDER BY a"), []int{1, 2, 3})
		c.Must(outer.Commit(c.Context))
		proof.Equal(c, s.do("DELETE FROM "+table), "DELETE 3")
	}
	s.do("DROP TABLE " + table)
}

func isolationLevels(c *proof.Client) {
	s := open(c)
	for _, level := range []pgx.TxIsoLevel{pgx.Serializable, pgx.RepeatableRead, pgx.ReadCommitted, pgx.ReadUncommitted} {
		for _, access := range []pgx.TxAccessMode{pgx.ReadWrite, pgx.ReadOnly} {
			tx := s.begin(pgx.TxOptions{IsoLevel: level, AccessMode: access, DeferrableMode: pgx.Deferrable})
			proof.Equal(c, one[string](c, tx, "SHOW transaction_isolation"), string(level))
			proof.Equal(c, one[string](c, tx, "SHOW transaction_read_only") == "on", access == pgx.ReadOnly)
			proof.Equal(c, one[string](c, tx, "SHOW transaction_deferrable"), "on")
			_, err := tx.Exec(c.Context, "CREATE TABLE "+c.Name("level")+" (a int)")
			if access == pgx.ReadOnly {
				fails(c, err, "25006")
			} else {
				c.Must(err)
			}
			c.Must(tx.Rollback(c.Context))
			proof.Equal(c, s.setting("transaction_isolation"), "read committed")
			proof.Equal(c, s.setting("transaction_read_only"), "off")
		}
	}
}

// serializationFailure needs two connections at once, so only one client does it at a time.
func serializationFailure(c *proof.Client) {
	s := open(c)
	c.Alone(s.plain, func() {
		other := open(c)
		table := c.Name("serial")
		s.do("CREATE TABLE " + table + " (a int)")
		s.do("INSERT INTO " + table + " VALUES (1)")
		options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead}
		first, second := s.begin(options), other.begin(options)
		proof.Equal(c, one[int](c, first, "SELECT a FROM "+table), 1)
		proof.Equal(c, one[int](c, second, "SELECT a FROM "+table), 1)
		_, err := second.Exec(c.Context, "UPDATE "+table+" SET a = 2")
		c.Must(err)
		c.Must(second.Commit(c.Context))
		proof.Equal(c, one[int](c, first, "SELECT a FROM "+table), 1)
		_, err = first.Exec(c.Context, "UPDATE "+table+" SET a = 3")
		fails(c, err, "40001")
		c.Must(first.Rollback(c.Context))
		proof.Equal(c, one[int](c, s, "SELECT a FROM "+table), 2)
		s.do("DROP TABLE " + table)
		c.Must(other.Close(c.Context))
	})
}

func cursors(c *proof.Client) {
	s := open(c)
	for range 3 {
		tx := s.begin(pgx.TxOptions{})
		_, err := tx.Exec(c.Context, "DECLARE walk SCROLL CURSOR FOR SELECT generate_series(1, 100)")
		c.Must(err)
		proof.Equal(c, all[int](c, tx, "FETCH 3 FROM walk"), []int{1, 2, 3})
		tag, err := tx.Exec(c.Context, "MOVE FORWARD 50 FROM walk")
		c.Must(err)
		proof.Equal(c, tag.String(), "MOVE 50")
		proof.Equal(c, all[int](c, tx, "FETCH 2 FROM walk"), []int{54, 55})
		proof.Equal(c, all[int](c, tx, "FETCH FIRST FROM walk"), []int{1})
		proof.Equal(c, len(all[int](c, tx, "FETCH ALL FROM walk")), 99)
		c.Must(tx.Commit(c.Context))
		_, err = s.Exec(c.Context, "FETCH 1 FROM walk")
		fails(c, err, "34000")
	}
}

func largeObjects(c *proof.Client) {
	s := open(c)
	content := strings.Repeat(fmt.Sprintf("large object %d;", c.Number), 20_000)
	var oid uint32
	c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) (err error) {
		objects := tx.LargeObjects()
		oid, err = objects.Create(c.Context, 0)
		c.Must(err)
		object, err := objects.Open(c.Context, oid, pgx.LargeObjectModeWrite)
		c.Must(err)
		written, err := io.WriteString(object, content)
		proof.Equal(c, written, len(content))
		return err
	}))
	c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
		objects := tx.LargeObjects()
		object, err := objects.Open(c.Context, oid, pgx.LargeObjectModeRead)
		c.Must(err)
		read, err := io.ReadAll(object)
		c.Must(err)
		c.Check(string(read) == content, "got %d other bytes", len(read))
		return objects.Unlink(c.Context, oid)
	}))
}

func serverErrors(c *proof.Client) {
	s := open(c)
	table := c.Name("strict")
	s.do("CREATE TABLE " + table + " (id int CONSTRAINT " + table + "_id PRIMARY KEY, n int NOT NULL CHECK (n > 0))")
	s.do("INSERT INTO " + table + " VALUES (1, 1)")
	for range 5 {
		_, err := s.Exec(c.Context, "INSERT INTO "+table+" VALUES ($1, $2)", 1, 1)
		found := fails(c, err, "23505")
		proof.Equal(c, found.ConstraintName, table+"_id")
		proof.Equal(c, found.TableName, table)
		proof.Equal(c, found.SchemaName, "public")
		proof.Equal(c, found.Severity, "ERROR")
		proof.Equal(c, found.Detail, "Key (id)=(1) already exists.")
		_, err = s.Exec(c.Context, "INSERT INTO "+table+" VALUES ($1, $2)", 2, nil)
		proof.Equal(c, fails(c, err, "23502").ColumnName, "n")
		_, err = s.Exec(c.Context, "INSERT INTO "+table+" VALUES ($1, $2)", 2, -1)
		fails(c, err, "23514")
		_, err = s.Exec(c.Context, "SELECT wrong FROM "+table)
		proof.Equal(c, fails(c, err, "42703").Position, 8)
		_, err = s.Exec(c.Context, "SELEC 1")
		fails(c, err, "42601")
		_, err = s.Exec(c.Context, "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ123', DETAIL = 'more', HINT = 'help'; END $$")
		found = fails(c, err, "ZZ123")
		proof.Equal(c, found.Detail+"/"+found.Hint, "more/help")
		var missing int
		c.Check(errors.Is(s.QueryRow(c.Context, "SELECT id FROM "+table+" WHERE id = 9").Scan(&missing), pgx.ErrNoRows), "there was a row")
		s.plain()
	}
	s.do("DROP TABLE " + table)
}

func notices(c *proof.Client) {
	var heard []string
	s := open(c, func(config *pgx.ConnConfig) {
		config.OnNotice = func(_ *pgconn.PgConn, notice *pgconn.Notice) { heard = append(heard, notice.Message) }
	})
	for i := range 10 {
		heard = nil
		s.do(fmt.Sprintf("DO $$ BEGIN RAISE NOTICE 'client %d'; RAISE WARNING 'round %d'; END $$", c.Number, i))
		proof.Equal(c, heard, []string{fmt.Sprint("client ", c.Number), fmt.Sprint("round ", i)})
	}
}

// cancelling lets a context that ends cancel the statement and keep the connection.
func cancelling(config *pgx.ConnConfig) {
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: 10 * time.Second}
	}
}

// running says whether a statement with these words is running.
func (s session) running(words string) bool {
	return one[bool](s.c, s, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"+
		" AND starts_with(query, 'SELECT pg_sleep') AND strpos(query, $1) > 0)", words)
}

func cancelByContext(c *proof.Client) {
	s := open(c)
	c.Alone(s.plain, func() {
		words := c.Name("sleeps")
		sleep := "SELECT pg_sleep(60) AS " + words

		// The driver's way unless told otherwise: the connection is given up, and the server told to stop.
		hasty := open(c)
		ctx, cancel := context.WithCancel(c.Context)
		ended := make(chan error)
		go func() {
			_, err := hasty.Exec(ctx, sleep)
			ended <- err
		}()
		c.Until(func() bool { return s.running(words) }, "the statement runs")
		cancel()
		c.Check(errors.Is(<-ended, context.Canceled), "the statement did not end by its context")
		c.Check(hasty.IsClosed(), "the connection is still open")
		c.Until(func() bool { return !s.running(words) }, "the server stops")

		patient := open(c, cancelling)
		ctx, cancel = context.WithCancel(c.Context)
		go func() {
			_, err := patient.Exec(ctx, sleep)
			ended <- err
		}()
		c.Until(func() bool { return s.running(words) }, "the statement runs")
		cancel()
		fails(c, <-ended, "57014")
		c.Check(!patient.IsClosed(), "the connection was closed")
		patient.plain()

		go func() {
			_, err := patient.Exec(c.Context, sleep)
			ended <- err
		}()
		c.Until(func() bool { return s.running(words) }, "the statement runs")
		c.Must(patient.PgConn().CancelRequest(c.Context))
		fails(c, <-ended, "57014")

		// In a transaction.
		tx := patient.begin(pgx.TxOptions{})
		ctx, cancel = context.WithTimeout(c.Context, 50*time.Millisecond)
		_, err := tx.Exec(ctx, sleep)
		cancel()
		fails(c, err, "57014")
		proof.Equal(c, patient.PgConn().TxStatus(), byte('E'))
		c.Must(tx.Rollback(c.Context))
		patient.plain()
		c.Must(patient.Close(c.Context))
	})
}

// cancelInACrowd has all clients cancel at about the same time.
func cancelInACrowd(c *proof.Client) {
	s := open(c, cancelling)
	for round := range 3 {
		ctx, cancel := context.WithTimeout(c.Context, time.Duration(50+10*c.Number)*time.Millisecond)
		_, err := s.Exec(ctx, "SELECT pg_sleep(8)")
		cancel()
		fails(c, err, "57014")
		proof.Equal(c, one[int](c, s, "SELECT $1::int", round), round)
	}
}
