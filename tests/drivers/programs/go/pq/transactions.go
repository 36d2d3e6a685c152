package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/lib/pq"

	"programs/proof"
)

func transactions(c *proof.Client) {
	s := open(c, "")
	table := c.Name("accounts")
	s.do("CREATE TABLE " + table + " (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, balance int)")
	s.do("INSERT INTO " + table + " VALUES (1, 100), (2, 100)")
	for range 10 {
		tx := s.begin(nil)
		pid := one[int](c, tx, "SELECT pg_backend_pid()")
		do(c, tx, "UPDATE "+table+" SET balance = balance - 5 WHERE id = 1")
		do(c, tx, "UPDATE "+table+" SET balance = balance + 5 WHERE id = 2")
		proof.Equal(c, one[int](c, tx, "SELECT pg_backend_pid()"), pid)
		c.Must(tx.Commit())
	}
	proof.Equal(c, all[int](c, s, "SELECT balance FROM "+table+" ORDER BY id"), []int{50, 150})
	tx := s.begin(nil)
	do(c, tx, "DELETE FROM "+table)
	c.Must(tx.Rollback())
	proof.Equal(c, one[int](c, s, "SELECT count(*) FROM "+table), 2)
	c.Check(errors.Is(tx.Commit(), sql.ErrTxDone), "a transaction was committed after its end")

	tx = s.begin(nil)
	refused(c, tx, "22012", "SELECT 1 / 0")
	refused(c, tx, "25P02", "SELECT 1")
	c.Check(tx.Commit() != nil, "a failed transaction was committed")
	s.plain()

	// A constraint that is looked at when the transaction is committed.
	tx = s.begin(nil)
	do(c, tx, "INSERT INTO "+table+" VALUES (1, 0)")
	fails(c, tx.Commit(), "23505")
	proof.Equal(c, one[int](c, s, "SELECT count(*) FROM "+table), 2)

	// A transaction whose context ends is rolled back.
	ctx, cancel := context.WithCancel(c.Context)
	other := open(c, "")
	tx, err := other.BeginTx(ctx, nil)
	c.Must(err)
	_, err = tx.ExecContext(ctx, "DELETE FROM "+table)
	c.Must(err)
	cancel()
	c.Check(tx.Commit() != nil, "the transaction was committed after its context had ended")
	c.Until(func() bool { return one[int](c, s, "SELECT count(*) FROM "+table+" WHERE id < 3") == 2 }, "the rows are back")
	s.do("DROP TABLE " + table)
}

func savepoints(c *proof.Client) {
	s := open(c, "")
	table := c.Name("nested")
	s.do("CREATE TABLE " + table + " (a int PRIMARY KEY)")
	for range 5 {
		tx := s.begin(nil)
		do(c, tx, "INSERT INTO "+table+" VALUES ($1)", 1)
		do(c, tx, "SAVEPOINT first")
		refused(c, tx, "23505", "INSERT INTO "+table+" VALUES ($1)", 1)
		do(c, tx, "ROLLBACK TO SAVEPOINT first")
		do(c, tx, "INSERT INTO "+table+" VALUES ($1)", 2)
		do(c, tx, "SAVEPOINT second")
		do(c, tx, "INSERT INTO "+table+" VALUES ($1)", 3)
		do(c, tx, "RELEASE SAVEPOINT second")
		proof.Equal(c, all[int](c, tx, "SELECT a FROM "+table+" ORDER BY a"), []int{1, 2, 3})
		c.Must(tx.Commit())
		proof.Equal(c, s.do("DELETE FROM "+table), 3)
	}
	s.do("DROP TABLE " + table)
}

func isolationLevels(c *proof.Client) {
	s := open(c, "")
	for level, name := range map[sql.IsolationLevel]string{
		sql.LevelSerializable:    "serializable",
		sql.LevelRepeatableRead:  "repeatable read",
		sql.LevelReadCommitted:   "read committed",
		sql.LevelReadUncommitted: "read uncommitted",
	} {
		for _, readOnly := range []bool{false, true} {
			tx := s.begin(&sql.TxOptions{Isolation: level, ReadOnly: readOnly})
			proof.Equal(c, one[string](c, tx, "SHOW transaction_isolation"), name)
			proof.Equal(c, one[string](c, tx, "SHOW transaction_read_only") == "on", readOnly)
			create := "CREATE TABLE " + c.Name("level") + " (a int)"
			if readOnly {
				refused(c, tx, "25006", create)
			} else {
				do(c, tx, create)
			}
			c.Must(tx.Rollback())
			proof.Equal(c, s.setting("transaction_isolation"), "read committed")
			proof.Equal(c, s.setting("transaction_read_only"), "off")
		}
	}
}

// serializationFailure needs two connections at once, so only one client does it at a time.
func serializationFailure(c *proof.Client) {
	db := database(c, "")
	s := hold(c, db)
	c.Alone(s.plain, func() {
		other := hold(c, db)
		table := c.Name("serial")
		s.do("CREATE TABLE " + table + " (a int)")
		s.do("INSERT INTO " + table + " VALUES (1)")
		options := &sql.TxOptions{Isolation: sql.LevelRepeatableRead}
		first, second := s.begin(options), other.begin(options)
		proof.Equal(c, one[int](c, first, "SELECT a FROM "+table), 1)
		proof.Equal(c, one[int](c, second, "SELECT a FROM "+table), 1)
		do(c, second, "UPDATE "+table+" SET a = 2")
		c.Must(second.Commit())
		proof.Equal(c, one[int](c, first, "SELECT a FROM "+table), 1)
		refused(c, first, "40001", "UPDATE "+table+" SET a = 3")
		c.Must(first.Rollback())
		proof.Equal(c, one[int](c, s, "SELECT a FROM "+table), 2)
		s.do("DROP TABLE " + table)
		c.Must(other.Close())
	})
}

func cursors(c *proof.Client) {
	s := open(c, "")
	for range 3 {
		tx := s.begin(nil)
		do(c, tx, "DECLARE walk SCROLL CURSOR FOR SELECT generate_series(1, 100)")
		proof.Equal(c, all[int](c, tx, "FETCH 3 FROM walk"), []int{1, 2, 3})
		do(c, tx, "MOVE FORWARD 50 FROM walk")
		proof.Equal(c, all[int](c, tx, "FETCH 2 FROM walk"), []int{54, 55})
		proof.Equal(c, all[int](c, tx, "FETCH FIRST FROM walk"), []int{1})
		proof.Equal(c, len(all[int](c, tx, "FETCH ALL FROM walk")), 99)
		c.Must(tx.Commit())
		refused(c, s, "34000", "FETCH 1 FROM walk")
	}
}

func serverErrors(c *proof.Client) {
	s := open(c, "")
	table := c.Name("strict")
	s.do("CREATE TABLE " + table + " (id int CONSTRAINT " + table + "_id PRIMARY KEY, n int NOT NULL CHECK (n > 0))")
	s.do("INSERT INTO " + table + " VALUES (1, 1)")
	for range 5 {
		found := refused(c, s, "23505", "INSERT INTO "+table+" VALUES ($1, $2)", 1, 1)
		proof.Equal(c, found.Constraint, table+"_id")
		proof.Equal(c, found.Table, table)
		proof.Equal(c, found.Detail, "Key (id)=(1) already exists.")
		proof.Equal(c, refused(c, s, "23502", "INSERT INTO "+table+" VALUES ($1, $2)", 2, nil).Column, "n")
		refused(c, s, "23514", "INSERT INTO "+table+" VALUES ($1, $2)", 2, -1)
		proof.Equal(c, refused(c, s, "42703", "SELECT wrong FROM "+table).Position, "8")
		refused(c, s, "42601", "SELEC 1")
		found = refused(c, s, "ZZ123", "DO $$ BEGIN RAISE EXCEPTION 'own' USING ERRCODE = 'ZZ123', DETAIL = 'more', HINT = 'help'; END $$")
		proof.Equal(c, found.Detail+"/"+found.Hint, "more/help")
		var missing int
		err := s.QueryRowContext(c.Context, "SELECT id FROM "+table+" WHERE id = 9").Scan(&missing)
		c.Check(errors.Is(err, sql.ErrNoRows), "there was a row")
		s.plain()
	}
	s.do("DROP TABLE " + table)
}

func notices(c *proof.Client) {
	base, err := pq.NewConnector("")
	c.Must(err)
	var heard []string
	connector := pq.ConnectorWithNoticeHandler(base, func(notice *pq.Error) { heard = append(heard, notice.Message) })
	db := sql.OpenDB(connector)
	c.Finally(func() { db.Close() })
	s := hold(c, db)
	for i := range 10 {
		heard = nil
		s.do(fmt.Sprintf("DO $$ BEGIN RAISE NOTICE 'client %d'; RAISE WARNING 'round %d'; END $$", c.Number, i))
		proof.Equal(c, heard, []string{fmt.Sprint("client ", c.Number), fmt.Sprint("round ", i)})
	}
}

// running says whether a statement with these words is running.
func (s session) running(words string) bool {
	return one[bool](s.c, s, "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"+
		" AND starts_with(query, 'SELECT pg_sleep') AND strpos(query, $1) > 0)", words)
}

// stopped checks that a statement ended early: the driver gives the server's error, or the context's if that came first.
func stopped(c *proof.Client, err error) {
	var found *pq.Error
	byServer := errors.As(err, &found) && found.Code == "57014"
	byContext := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
	c.Check(byServer || byContext, "got %v", err)
}

func cancelByContext(c *proof.Client) {
	db := database(c, "")
	s := hold(c, db)
	c.Alone(s.plain, func() {
		words := c.Name("sleeps")
		sleep := "SELECT pg_sleep(60) AS " + words
		cancelled := func(run func(ctx context.Context) error) {
			ctx, cancel := context.WithCancel(c.Context)
			ended := make(chan error)
			go func() { ended <- run(ctx) }()
			c.Until(func() bool { return s.running(words) }, "the statement runs")
			cancel()
			stopped(c, <-ended)
			c.Until(func() bool { return !s.running(words) }, "the server stops")
		}
		cancelled(func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, sleep)
			return err
		})
		cancelled(func(ctx context.Context) error {
			_, err := db.ExecContext(ctx, sleep+", $1::int", 1)
			return err
		})
		cancelled(func(ctx context.Context) error {
			tx, err := db.BeginTx(c.Context, nil)
			c.Must(err)
			defer tx.Rollback()
			_, err = tx.ExecContext(ctx, sleep)
			return err
		})
		// A statement that is cancelled leaves its connection as it was.
		kept := hold(c, db)
		statement, err := kept.PrepareContext(c.Context, sleep)
		c.Must(err)
		cancelled(func(ctx context.Context) error {
			_, err := statement.ExecContext(ctx)
			return err
		})
		kept.plain()
		c.Must(statement.Close())
		c.Must(kept.Close())
	})
}

// cancelInACrowd has all clients cancel at about the same time.
func cancelInACrowd(c *proof.Client) {
	db := database(c, "")
	for round := range 3 {
		ctx, cancel := context.WithTimeout(c.Context, time.Duration(100+10*c.Number)*time.Millisecond)
		_, err := db.ExecContext(ctx, "SELECT pg_sleep(8)")
		cancel()
		stopped(c, err)
		proof.Equal(c, one[int](c, db, "SELECT $1::int", round), round)
	}
}
