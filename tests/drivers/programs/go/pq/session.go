package main

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/lib/pq"

	"programs/proof"
)

// in does something in a transaction and commits it.
func in(s session, work func(tx *sql.Tx)) {
	tx := s.begin(nil)
	defer tx.Rollback()
	work(tx)
	s.c.Must(tx.Commit())
}

// listener has the driver keep a connection of its own for notifications.
func listener(c *proof.Client) {
	db := database(c, "")
	s := hold(c, db)
	c.Alone(s.plain, func() {
		channel := c.Name("channel")
		var events []pq.ListenerEventType
		listening := pq.NewListener("", 10*time.Millisecond, time.Second, func(event pq.ListenerEventType, err error) {
			events = append(events, event)
		})
		open := true
		defer func() {
			if open {
				listening.Close()
			}
		}()
		hear := func() *pq.Notification {
			select {
			case heard := <-listening.Notify:
				c.Check(heard != nil, "the listener had to connect again")
				return heard
			case <-c.Context.Done():
				c.Must(c.Context.Err())
				return nil
			}
		}
		c.Must(listening.Listen(channel))
		for i := range 5 {
			payload := fmt.Sprintf("message %d for %d", i, c.Number)
			s.do("SELECT pg_notify($1, $2)", channel, payload)
			heard := hear()
			proof.Equal(c, heard.Channel, channel)
			proof.Equal(c, heard.Extra, payload)
		}
		c.Must(listening.Listen(channel + "_more"))
		c.Must(listening.Ping())
		// Only a committed one is heard.
		tx := s.begin(nil)
		do(c, tx, "SELECT pg_notify($1, 'never')", channel)
		c.Must(tx.Rollback())
		s.do("NOTIFY " + channel + "_more, 'more'")
		proof.Equal(c, hear().Extra, "more")
		c.Must(listening.Unlisten(channel))
		s.do("SELECT pg_notify($1, 'nobody listens')", channel)
		s.do("SELECT pg_notify($1, 'last')", channel+"_more")
		proof.Equal(c, hear().Extra, "last")
		c.Must(listening.UnlistenAll())
		c.Must(listening.Ping())
		open = false
		c.Must(listening.Close())
		proof.Equal(c, events, []pq.ListenerEventType{pq.ListenerEventConnected})
	})
	s.plain()
}

func startupParameters(c *proof.Client) {
	s := open(c, fmt.Sprintf("application_name=%s search_path='path_%d, public' timezone=Asia/Tokyo statement_timeout=%ds work_mem=%dkB",
		c.Name("program"), c.Number, 30+c.Number, 1000+c.Number))
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
	s := open(c, "")
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

	// For a transaction only, and undone with one.
	tx := s.begin(nil)
	do(c, tx, "SET LOCAL work_mem = '9MB'")
	proof.Equal(c, one[string](c, tx, "SHOW work_mem"), "9MB")
	c.Must(tx.Commit())
	holds()
	tx = s.begin(nil)
	do(c, tx, "SET work_mem = '9MB'")
	c.Must(tx.Rollback())
	holds()
	tx = s.begin(nil)
	do(c, tx, "SET lock_timeout = '1s'")
	c.Must(tx.Commit())
	proof.Equal(c, s.setting("lock_timeout"), "1s")

	s.do("RESET work_mem")
	proof.Equal(c, s.setting("work_mem"), before)
	proof.Equal(c, s.setting("lock_timeout"), "1s")
	s.do("SET lock_timeout TO DEFAULT")
	proof.Equal(c, s.setting("lock_timeout"), "0")
	s.do("RESET ALL")
	proof.Equal(c, s.setting("DateStyle"), "ISO, MDY")
	refused(c, s, "22023", "SET work_mem = 'nonsense'")
	proof.Equal(c, s.setting("work_mem"), before)
}

// setConfig is what applications with a tenant or a user of their own do.
func setConfig(c *proof.Client) {
	s := open(c, "")
	for i := range 5 {
		tenant := fmt.Sprintf("tenant %d of %d", i, c.Number)
		proof.Equal(c, one[string](c, s, "SELECT set_config('program.tenant', $1, false)", tenant), tenant)
		for range 4 {
			proof.Equal(c, s.setting("program.tenant"), tenant)
		}
		tx := s.begin(nil)
		one[string](c, tx, "SELECT set_config('program.tenant', 'local', true)")
		proof.Equal(c, one[string](c, tx, "SELECT current_setting('program.tenant')"), "local")
		c.Must(tx.Commit())
		proof.Equal(c, s.setting("program.tenant"), tenant)
	}
}

func searchPath(c *proof.Client) {
	s := open(c, "")
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
	refused(c, s, "42P01", "SELECT a FROM here")
	s.do("DROP SCHEMA " + schema + " CASCADE")
}

func role(c *proof.Client) {
	s := open(c, "")
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
	s := open(c, "")
	level, readOnly := "serializable", "on"
	if c.Number%2 == 0 {
		level, readOnly = "repeatable read", "off"
	}
	access := map[string]string{"on": "READ ONLY", "off": "READ WRITE"}[readOnly]
	s.do("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL " + level + ", " + access)
	for range 5 {
		proof.Equal(c, s.setting("transaction_isolation"), level)
		proof.Equal(c, s.setting("transaction_read_only"), readOnly)
		// The driver's BEGIN says READ WRITE, but nothing of the level.
		tx := s.begin(nil)
		proof.Equal(c, one[string](c, tx, "SHOW transaction_isolation"), level)
		proof.Equal(c, one[string](c, tx, "SHOW transaction_read_only"), "off")
		c.Must(tx.Commit())
	}
	s.do("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED, READ WRITE")
	proof.Equal(c, s.setting("transaction_isolation"), "read committed")
}

func tempTables(c *proof.Client) {
	s := open(c, "")
	c.Alone(s.plain, func() {
		s.do("CREATE TEMP TABLE mine (a int, t text)")
		for i := range 10 {
			s.do("INSERT INTO mine VALUES ($1, $2)", i, fmt.Sprint("client ", c.Number))
			proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM mine"), i+1)
		}
		tx := s.begin(nil)
		copying, err := tx.PrepareContext(c.Context, "COPY mine (a, t) FROM STDIN")
		c.Must(err)
		_, err = copying.ExecContext(c.Context, 10, "copied")
		c.Must(err)
		c.Must(copying.Close())
		c.Must(tx.Commit())
		tx = s.begin(nil)
		do(c, tx, "DELETE FROM mine")
		c.Must(tx.Rollback())
		proof.Equal(c, one[int](c, s, "SELECT sum(a)::int FROM mine"), 55)
		s.do("CREATE TEMP TABLE result AS SELECT a * 2 AS a FROM mine")
		proof.Equal(c, one[int](c, s, "SELECT sum(a)::int FROM result"), 110)
		s.do("DROP TABLE mine, result")
		refused(c, s, "42P01", "SELECT FROM mine")
	})
	s.plain()
}

func tempTablesOfATransaction(c *proof.Client) {
	s := open(c, "")
	for range 5 {
		in(s, func(tx *sql.Tx) {
			do(c, tx, "CREATE TEMP TABLE staging (a int) ON COMMIT DROP")
			do(c, tx, "INSERT INTO staging VALUES (1), ($1)", c.Number)
			proof.Equal(c, one[int](c, tx, "SELECT sum(a)::int FROM staging"), 1+c.Number)
		})
		refused(c, s, "42P01", "SELECT a FROM staging")
	}
}

func advisoryLocks(c *proof.Client) {
	db := database(c, "")
	s := hold(c, db)
	key := int64(7_000_000)
	c.Alone(s.plain, func() {
		other := hold(c, db)
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
		c.Must(other.Close())
	})
	s.plain()
}

// advisoryLocksOfATransaction lets all clients add to one number, one after the other.
func advisoryLocksOfATransaction(c *proof.Client) {
	s := open(c, "")
	table := proof.Prefix() + "shared"
	in(s, func(tx *sql.Tx) {
		do(c, tx, "SELECT pg_advisory_xact_lock(7000001)")
		do(c, tx, "CREATE TABLE IF NOT EXISTS "+table+" (client int, a int)")
	})
	for i := range 5 {
		in(s, func(tx *sql.Tx) {
			do(c, tx, "SELECT pg_advisory_xact_lock(7000001)")
			highest := one[int](c, tx, "SELECT coalesce(max(a), 0) FROM "+table)
			do(c, tx, "INSERT INTO "+table+" VALUES ($1, $2)", c.Number, highest+1)
		})
		proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table+" WHERE client = $1", c.Number), i+1)
		proof.Equal(c, one[bool](c, s, "SELECT count(*) = count(DISTINCT a) FROM "+table), true)
	}
}

func withHoldCursor(c *proof.Client) {
	s := open(c, "")
	c.Alone(s.plain, func() {
		in(s, func(tx *sql.Tx) {
			do(c, tx, fmt.Sprintf("DECLARE kept CURSOR WITH HOLD FOR SELECT %d * n FROM generate_series(1, 100) n", c.Number+1))
		})
		for i := range 10 {
			got := all[int](c, s, "FETCH 2 FROM kept")
			proof.Equal(c, got, []int{(2*i + 1) * (c.Number + 1), (2*i + 2) * (c.Number + 1)})
		}
		s.do("CLOSE kept")
		refused(c, s, "34000", "FETCH 1 FROM kept")
	})
	s.plain()
}

// sqlPrepare prepares by SQL, each client another statement under the same name.
func sqlPrepare(c *proof.Client) {
	s := open(c, "")
	for i := range 3 {
		s.do(fmt.Sprintf("PREPARE add (int, int) AS SELECT $1 + $2 + %d", 1000*c.Number+i))
		s.do(fmt.Sprintf("PREPARE who AS SELECT 'client %d'::text", c.Number))
		for n := range 5 {
			got := one[int](c, s, fmt.Sprintf("EXECUTE add (%d, 1)", n))
			proof.Equal(c, got, 1000*c.Number+i+n+1)
			proof.Equal(c, one[string](c, s, "EXECUTE who"), fmt.Sprint("client ", c.Number))
		}
		refused(c, s, "42P05", "PREPARE who AS SELECT 1")
		s.do("DEALLOCATE add")
		refused(c, s, "26000", "EXECUTE add (1, 2)")
		proof.Equal(c, one[string](c, s, "EXECUTE who"), fmt.Sprint("client ", c.Number))
		s.do("DEALLOCATE ALL")
		refused(c, s, "26000", "EXECUTE who")
	}
}
