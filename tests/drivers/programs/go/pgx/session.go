package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"programs/proof"
)

func listens(c *proof.Client) {
	s := open(c)
	c.Alone(s.plain, func() {
		other := open(c)
		channel := c.Name("channel")
		s.do("LISTEN " + channel)
		for i := range 5 {
			payload := fmt.Sprintf("message %d for %d", i, c.Number)
			other.do("SELECT pg_notify($1, $2)", channel, payload)
			heard, err := s.WaitForNotification(c.Context)
			c.Must(err)
			proof.Equal(c, heard.Channel, channel)
			proof.Equal(c, heard.Payload, payload)
		}
		// Queries in between, and what one says to oneself.
		s.do("NOTIFY " + channel + ", 'own'")
		s.plain()
		heard, err := s.WaitForNotification(c.Context)
		c.Must(err)
		proof.Equal(c, heard.Payload, "own")
		// Only a committed one is heard.
		tx := other.begin(pgx.TxOptions{})
		_, err = tx.Exec(c.Context, "SELECT pg_notify($1, 'never')", channel)
		c.Must(err)
		c.Must(tx.Rollback(c.Context))
		soon, cancel := context.WithTimeout(c.Context, 50*time.Millisecond)
		_, err = s.WaitForNotification(soon)
		cancel()
		c.Check(errors.Is(err, context.DeadlineExceeded), "got %v", err)
		s.do("LISTEN " + channel + "_more")
		other.do("SELECT pg_notify($1, 'more')", channel+"_more")
		heard, err = s.WaitForNotification(c.Context)
		c.Must(err)
		proof.Equal(c, heard.Channel, channel+"_more")
		proof.Equal(c, len(all[string](c, s, "SELECT pg_listening_channels()")), 2)
		s.do("UNLISTEN *")
		proof.Equal(c, len(all[string](c, s, "SELECT pg_listening_channels()")), 0)
		c.Must(other.Close(c.Context))
	})
	s.plain()
}

func startupParameters(c *proof.Client) {
	s := open(c, func(config *pgx.ConnConfig) {
		for name, value := range map[string]string{
			"application_name":  c.Name("program"),
			"search_path":       fmt.Sprintf("path_%d, public", c.Number),
			"statement_timeout": fmt.Sprintf("%ds", 30+c.Number),
			"TimeZone":          "Asia/Tokyo",
			"work_mem":          fmt.Sprintf("%dkB", 1000+c.Number),
		} {
			config.RuntimeParams[name] = value
		}
	})
	for range 10 {
		proof.Equal(c, s.setting("application_name"), c.Name("program"))
		proof.Equal(c, s.setting("search_path"), fmt.Sprintf("path_%d, public", c.Number))
		proof.Equal(c, s.setting("statement_timeout"), fmt.Sprintf("%ds", 30+c.Number))
		proof.Equal(c, s.setting("TimeZone"), "Asia/Tokyo")
		proof.Equal(c, s.setting("work_mem"), fmt.Sprintf("%dkB", 1000+c.Number))
	}
	s.do("SET work_mem = '2MB'")
	s.do("RESET work_mem")
	proof.Equal(c, s.setting("work_mem"), fmt.Sprintf("%dkB", 1000+c.Number))
}

// settings asks back in later transactions what was SET.
func settings(c *proof.Client) {
	s := open(c)
	before := s.setting("work_mem")
	timeout := fmt.Sprintf("%ds", 100+c.Number)
	memory := fmt.Sprintf("%dkB", 2000+c.Number)
	s.do("SET lock_timeout = '" + timeout + "'")
	s.do("SET SESSION work_mem TO '" + memory + "'")
	s.do("SET application_name = '" + c.Name("named") + "'")
	s.do("SET TIME ZONE 'America/New_York'")
	s.do("SET DateStyle = 'German'")
	holds := func() {
		proof.Equal(c, s.setting("lock_timeout"), timeout)
		proof.Equal(c, s.setting("work_mem"), memory)
		proof.Equal(c, s.setting("application_name"), c.Name("named"))
		proof.Equal(c, s.setting("TimeZone"), "America/New_York")
		proof.Equal(c, one[string](c, s, "SELECT date '2024-03-01'::text"), "01.03.2024")
	}
	for range 10 {
		holds()
	}
	proof.Equal(c, s.PgConn().ParameterStatus("application_name"), c.Name("named"))

	// For a transaction only, and undone with one.
	tx := s.begin(pgx.TxOptions{})
	_, err := tx.Exec(c.Context, "SET LOCAL work_mem = '9MB'")
	c.Must(err)
	proof.Equal(c, one[string](c, tx, "SHOW work_mem"), "9MB")
	c.Must(tx.Commit(c.Context))
	holds()
	tx = s.begin(pgx.TxOptions{})
	_, err = tx.Exec(c.Context, "SET work_mem = '9MB'")
	c.Must(err)
	c.Must(tx.Rollback(c.Context))
	holds()
	tx = s.begin(pgx.TxOptions{})
	_, err = tx.Exec(c.Context, "SET lock_timeout = '1s'")
	c.Must(err)
	c.Must(tx.Commit(c.Context))
	proof.Equal(c, s.setting("lock_timeout"), "1s")

	s.do("RESET work_mem")
	proof.Equal(c, s.setting("work_mem"), before)
	proof.Equal(c, s.setting("lock_timeout"), "1s")
	s.do("SET lock_timeout TO DEFAULT")
	proof.Equal(c, s.setting("lock_timeout"), "0")
	s.do("RESET ALL")
	proof.Equal(c, s.setting("DateStyle"), "ISO, MDY")
	_, err = s.Exec(c.Context, "SET work_mem = 'nonsense'")
	fails(c, err, "22023")
	proof.Equal(c, s.setting("work_mem"), before)
}

// setConfig is what applications with a tenant or a user of their own do.
func setConfig(c *proof.Client) {
	s := open(c)
	for i := range 5 {
		tenant := fmt.Sprintf("tenant %d of %d", i, c.Number)
		proof.Equal(c, one[string](c, s, "SELECT set_config('program.tenant', $1, false)", tenant), tenant)
		for range 4 {
			proof.Equal(c, s.setting("program.tenant"), tenant)
		}
		tx := s.begin(pgx.TxOptions{})
		one[string](c, tx, "SELECT set_config('program.tenant', 'local', true)")
		proof.Equal(c, one[string](c, tx, "SELECT current_setting('program.tenant')"), "local")
		c.Must(tx.Commit(c.Context))
		proof.Equal(c, s.setting("program.tenant"), tenant)
	}
}

func searchPath(c *proof.Client) {
	s := open(c)
	schema := c.Name("schema")
	s.do("CREATE SCHEMA " + schema)
	s.do("CREATE TABLE " + schema + ".here (a int)")
	s.do("SET search_path = " + schema + ", public")
	s.do("INSERT INTO here VALUES ($1)", c.Number)
	for range 10 {
		proof.Equal(c, one[int](c, s, "SELECT a FROM here"), c.Number)
		proof.Equal(c, one[string](c, s, "SELECT current_schema()::text"), schema)
	}
	s.do("RESET search_path")
	_, err := s.Exec(c.Context, "SELECT a FROM here", pgx.QueryExecModeExec)
	fails(c, err, "42P01")
	s.do("DROP SCHEMA " + schema + " CASCADE")
}

func role(c *proof.Client) {
	s := open(c)
	for range 3 {
		s.do("SET ROLE pg_read_all_stats")
		for range 5 {
			proof.Equal(c, one[string](c, s, "SELECT current_user::text"), "pg_read_all_stats")
			proof.Equal(c, one[bool](c, s, "SELECT current_user = session_user"), false)
		}
		s.do("RESET ROLE")
		for range 3 {
			proof.Equal(c, one[bool](c, s, "SELECT current_user = session_user"), true)
		}
	}
}

// sessionCharacteristics are the defaults of the transactions to come: other ones for odd clients than for even ones.
func sessionCharacteristics(c *proof.Client) {
	s := open(c)
	level, readOnly := "serializable", "on"
	if c.Number%2 == 0 {
		level, readOnly = "repeatable read", "off"
	}
	access := map[string]string{"on": "READ ONLY", "off": "READ WRITE"}[readOnly]
	s.do("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL " + level + ", " + access)
	for range 5 {
		proof.Equal(c, s.setting("transaction_isolation"), level)
		tx := s.begin(pgx.TxOptions{})
		proof.Equal(c, one[string](c, tx, "SHOW transaction_isolation"), level)
		proof.Equal(c, one[string](c, tx, "SHOW transaction_read_only"), readOnly)
		c.Must(tx.Commit(c.Context))
	}
	s.do("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
	proof.Equal(c, s.setting("transaction_isolation"), "read committed")
}

func tempTables(c *proof.Client) {
	s := open(c)
	c.Alone(s.plain, func() {
		s.do("CREATE TEMP TABLE mine (a int, t text)")
		for i := range 10 {
			s.do("INSERT INTO mine VALUES ($1, $2)", i, fmt.Sprint("client ", c.Number))
			proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM mine"), i+1)
		}
		count, err := s.CopyFrom(c.Context, pgx.Identifier{"mine"}, []string{"a", "t"}, pgx.CopyFromRows([][]any{{10, "copied"}}))
		c.Must(err)
		proof.Equal(c, count, 1)
		tx := s.begin(pgx.TxOptions{})
		_, err = tx.Exec(c.Context, "DELETE FROM mine")
		c.Must(err)
		c.Must(tx.Rollback(c.Context))
		proof.Equal(c, one[int](c, s, "SELECT sum(a)::int FROM mine"), 55)
		s.do("CREATE TEMP TABLE result AS SELECT a * 2 AS a FROM mine")
		proof.Equal(c, one[int](c, s, "SELECT sum(a)::int FROM result"), 110)
		s.do("DROP TABLE mine, result")
		_, err = s.Exec(c.Context, "SELECT FROM mine", pgx.QueryExecModeExec)
		fails(c, err, "42P01")
	})
	s.plain()
}

func tempTablesOfATransaction(c *proof.Client) {
	s := open(c)
	for range 5 {
		c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
			_, err := tx.Exec(c.Context, "CREATE TEMP TABLE staging (a int) ON COMMIT DROP")
			c.Must(err)
			_, err = tx.CopyFrom(c.Context, pgx.Identifier{"staging"}, []string{"a"}, pgx.CopyFromRows([][]any{{1}, {c.Number}}))
			c.Must(err)
			proof.Equal(c, one[int](c, tx, "SELECT sum(a)::int FROM staging"), 1+c.Number)
			return nil
		}))
		_, err := s.Exec(c.Context, "SELECT a FROM staging", pgx.QueryExecModeExec)
		fails(c, err, "42P01")
	}
}

func advisoryLocks(c *proof.Client) {
	s := open(c)
	key := int64(7_000_000)
	c.Alone(s.plain, func() {
		other := open(c)
		s.do("SELECT pg_advisory_lock($1)", key)
		for range 5 {
			s.plain()
			proof.Equal(c, one[bool](c, other, "SELECT pg_try_advisory_xact_lock($1)", key), false)
		}
		proof.Equal(c, one[bool](c, s, "SELECT pg_try_advisory_lock($1)", key), true)
		proof.Equal(c, one[bool](c, s, "SELECT pg_advisory_unlock($1)", key), true)
		proof.Equal(c, one[bool](c, other, "SELECT pg_try_advisory_xact_lock($1)", key), false)
		proof.Equal(c, one[bool](c, s, "SELECT pg_advisory_unlock($1)", key), true)
		proof.Equal(c, one[bool](c, s, "SELECT pg_advisory_unlock($1)", key), false)
		proof.Equal(c, one[bool](c, other, "SELECT pg_try_advisory_xact_lock($1)", key), true)
		s.do("SELECT pg_advisory_lock($1, $2)", 7, c.Number)
		s.do("SELECT pg_advisory_unlock_all()")
		proof.Equal(c, one[bool](c, other, "SELECT pg_try_advisory_xact_lock($1, $2)", 7, c.Number), true)
		c.Must(other.Close(c.Context))
	})
	s.plain()
}

// advisoryLocksOfATransaction lets all clients add to one number, one after the other.
func advisoryLocksOfATransaction(c *proof.Client) {
	s := open(c)
	table := proof.Prefix() + "shared"
	c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
		_, err := tx.Exec(c.Context, "SELECT pg_advisory_xact_lock(7000001)")
		c.Must(err)
		_, err = tx.Exec(c.Context, "CREATE TABLE IF NOT EXISTS "+table+" (client int, a int)")
		return err
	}))
	for i := range 5 {
		c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
			_, err := tx.Exec(c.Context, "SELECT pg_advisory_xact_lock(7000001)")
			c.Must(err)
			highest := one[int](c, tx, "SELECT coalesce(max(a), 0) FROM "+table)
			_, err = tx.Exec(c.Context, "INSERT INTO "+table+" VALUES ($1, $2)", c.Number, highest+1)
			return err
		}))
		proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table+" WHERE client = $1", c.Number), i+1)
		proof.Equal(c, one[bool](c, s, "SELECT count(*) = count(DISTINCT a) FROM "+table), true)
	}
}

func withHoldCursor(c *proof.Client) {
	s := open(c)
	c.Alone(s.plain, func() {
		c.Must(pgx.BeginFunc(c.Context, s, func(tx pgx.Tx) error {
			_, err := tx.Exec(c.Context, "DECLARE kept CURSOR WITH HOLD FOR SELECT $1::int * n FROM generate_series(1, 100) n",
				pgx.QueryExecModeSimpleProtocol, c.Number+1)
			return err
		}))
		for i := range 10 {
			got := all[int](c, s, "FETCH 2 FROM kept")
			proof.Equal(c, got, []int{(2*i + 1) * (c.Number + 1), (2*i + 2) * (c.Number + 1)})
		}
		s.do("CLOSE kept")
		_, err := s.Exec(c.Context, "FETCH 1 FROM kept", pgx.QueryExecModeSimpleProtocol)
		fails(c, err, "34000")
	})
	s.plain()
}

// sqlPrepare prepares by SQL, each client another statement under the same name.
func sqlPrepare(c *proof.Client) {
	s := open(c)
	for i := range 3 {
		s.do(fmt.Sprintf("PREPARE add (int, int) AS SELECT $1 + $2 + %d", 1000*c.Number+i))
		s.do(fmt.Sprintf("PREPARE who AS SELECT 'client %d'::text", c.Number))
		for n := range 5 {
			got := one[int](c, s, fmt.Sprintf("EXECUTE add (%d, 1)", n), pgx.QueryExecModeSimpleProtocol)
			proof.Equal(c, got, 1000*c.Number+i+n+1)
			proof.Equal(c, one[string](c, s, "EXECUTE who", pgx.QueryExecModeExec), fmt.Sprint("client ", c.Number))
		}
		_, err := s.Exec(c.Context, "PREPARE who AS SELECT 1")
		fails(c, err, "42P05")
		s.do("DEALLOCATE add")
		_, err = s.Exec(c.Context, "EXECUTE add (1, 2)", pgx.QueryExecModeSimpleProtocol)
		fails(c, err, "26000")
		proof.Equal(c, one[string](c, s, "EXECUTE who", pgx.QueryExecModeSimpleProtocol), fmt.Sprint("client ", c.Number))
		s.do("DEALLOCATE ALL")
		_, err = s.Exec(c.Context, "EXECUTE who", pgx.QueryExecModeSimpleProtocol)
		fails(c, err, "26000")
	}
}
