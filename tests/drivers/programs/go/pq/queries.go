package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/lib/pq"

	"programs/proof"
)

func connects(c *proof.Client) {
	for range 5 {
		db, err := sql.Open("postgres", "")
		c.Must(err)
		c.Must(db.PingContext(c.Context))
		proof.Equal(c, one[int](c, db, "SELECT 40 + $1::int", 2), 42)
		c.Must(db.Close())
	}
}

func pools(c *proof.Client) {
	db := database(c, "")
	db.SetMaxOpenConns(3)
	db.SetMaxIdleConns(1)
	answers := make(chan int)
	for i := range 12 {
		go func() {
			var got int
			if err := db.QueryRowContext(c.Context, "SELECT $1::int * 2", i).Scan(&got); err != nil {
				got = -1
			}
			answers <- got - 2*i
		}()
	}
	for range 12 {
		proof.Equal(c, <-answers, 0)
	}
	c.Check(db.Stats().OpenConnections <= 3, "there are %d connections", db.Stats().OpenConnections)
	table := c.Name("pooled")
	do(c, db, "CREATE TABLE "+table+" (a int)")
	tx, err := db.BeginTx(c.Context, nil)
	c.Must(err)
	proof.Equal(c, do(c, tx, "INSERT INTO "+table+" SELECT generate_series(1, 10)"), 10)
	c.Must(tx.Commit())
	proof.Equal(c, one[int](c, db, "SELECT sum(a) FROM "+table), 55)
	do(c, db, "DROP TABLE "+table)
}

func queriesWith(dsn string) func(*proof.Client) {
	return func(c *proof.Client) {
		s := open(c, dsn)
		table := c.Name("rows")
		s.do("CREATE TABLE " + table + " (id int PRIMARY KEY, t text, b bytea, at timestamptz, f float8, ok bool)")
		at := time.Date(2024, 2, 29, 12, 30, 0, 123456000, time.UTC)
		for i := range 20 {
			text := fmt.Sprintf("it's \\ row %d of client %d ÄÖ€", i, c.Number)
			count := s.do("INSERT INTO "+table+" VALUES ($1, $2, $3, $4, $5, $6)", i, text, []byte{0, byte(i), 255}, at, 1.5, i%2 == 0)
			proof.Equal(c, count, 1)
			var gotText string
			var gotBytes []byte
			var gotAt time.Time
			var gotFloat float64
			var gotBool bool
			c.Must(s.QueryRowContext(c.Context, "SELECT t, b, at, f, ok FROM "+table+" WHERE id = $1", i).
				Scan(&gotText, &gotBytes, &gotAt, &gotFloat, &gotBool))
			proof.Equal(c, gotText, text)
			proof.Equal(c, gotBytes, []byte{0, byte(i), 255})
			c.Check(gotAt.Equal(at), "got %v", gotAt)
			proof.Equal(c, gotFloat, 1.5)
			proof.Equal(c, gotBool, i%2 == 0)
		}
		proof.Equal(c, s.do("UPDATE "+table+" SET t = $1 WHERE id < $2", nil, 5), 5)
		proof.Equal(c, one[int](c, s, "SELECT count(*) FROM "+table+" WHERE t IS NULL"), 5)
		refused(c, s, "23505", "INSERT INTO "+table+" (id) VALUES ($1)", 1)
		refused(c, s, "22012", "SELECT 1 / ($1::int - 1)", 1)
		proof.Equal(c, all[int](c, s, "SELECT id FROM "+table+" WHERE id BETWEEN $1 AND $2 ORDER BY 1", 3, 7), []int{3, 4, 5, 6, 7})
		tx := s.begin(nil)
		for i := range 5 {
			proof.Equal(c, one[int](c, tx, "SELECT $1::int", i), i)
		}
		proof.Equal(c, do(c, tx, "DELETE FROM "+table+" WHERE id > $1", 9), 10)
		c.Must(tx.Commit())
		proof.Equal(c, len(all[int](c, s, "SELECT id FROM "+table)), 10)
		s.do("DROP TABLE " + table)
	}
}

// prepared keeps statements on one connection; the driver numbers them, so all clients have the same names.
func prepared(c *proof.Client) {
	s := open(c, "")
	for round := range 4 {
		var statements []*sql.Stmt
		for i := range 6 {
			statement, err := s.PrepareContext(c.Context, fmt.Sprintf("SELECT $1::int + %d", 1000*c.Number+10*round+i))
			c.Must(err)
			statements = append(statements, statement)
		}
		for n := range 10 {
			for i, statement := range statements {
				var got int
				c.Must(statement.QueryRowContext(c.Context, n).Scan(&got))
				proof.Equal(c, got, 1000*c.Number+10*round+i+n)
			}
		}
		tx := s.begin(nil)
		var got int
		c.Must(tx.StmtContext(c.Context, statements[0]).QueryRow(5).Scan(&got))
		proof.Equal(c, got, 1000*c.Number+10*round+5)
		c.Must(tx.Commit())
		_, err := statements[0].ExecContext(c.Context, "not a number")
		fails(c, err, "22P02")
		for _, statement := range statements {
			c.Must(statement.Close())
		}
		_, err = s.PrepareContext(c.Context, "SELECT nothing FROM nowhere_at_all")
		fails(c, err, "42P01")
	}
}

// preparedOfAPool lets database/sql prepare on each connection it comes to.
func preparedOfAPool(c *proof.Client) {
	db := database(c, "")
	db.SetMaxOpenConns(3)
	statement, err := db.PrepareContext(c.Context, fmt.Sprintf("SELECT $1::int + %d", 100*c.Number))
	c.Must(err)
	answers := make(chan int)
	for n := range 20 {
		go func() {
			var got int
			if err := statement.QueryRowContext(c.Context, n).Scan(&got); err != nil {
				got = -1
			}
			answers <- got - 100*c.Number - n
		}()
	}
	for range 20 {
		proof.Equal(c, <-answers, 0)
	}
	c.Must(statement.Close())
}

// changedTable alters a table under a statement that was prepared for it.
func changedTable(c *proof.Client) {
	s := open(c, "")
	table := c.Name("changed")
	s.do("CREATE TABLE " + table + " (a int)")
	s.do("INSERT INTO " + table + " VALUES (1)")
	statement, err := s.PrepareContext(c.Context, "SELECT * FROM "+table)
	c.Must(err)
	for range 5 {
		var a int
		c.Must(statement.QueryRowContext(c.Context).Scan(&a))
		proof.Equal(c, a, 1)
	}
	s.do("ALTER TABLE " + table + " ADD b text DEFAULT 'new'")
	var a int
	var b string
	fails(c, statement.QueryRowContext(c.Context).Scan(&a), "0A000")
	c.Must(statement.Close())
	c.Must(s.QueryRowContext(c.Context, "SELECT * FROM "+table).Scan(&a, &b))
	proof.Equal(c, b, "new")
	s.do("DROP TABLE " + table)
}

func types(c *proof.Client) {
	s := open(c, "")
	for range 5 {
		proof.Equal(c, one[int64](c, s, "SELECT $1::bigint", int64(math.MaxInt64)), int64(math.MaxInt64))
		proof.Equal(c, one[float32](c, s, "SELECT $1::real", 0.25), float32(0.25))
		c.Check(math.IsNaN(one[float64](c, s, "SELECT $1::float8", math.NaN())), "NaN came back as something else")
		proof.Equal(c, one[string](c, s, "SELECT $1::numeric", "12345678901234567890.123456789"), "12345678901234567890.123456789")
		uuid := "00000000-0000-4000-8000-00000000000a"
		proof.Equal(c, one[string](c, s, "SELECT $1::uuid", uuid), uuid)
		moment := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
		c.Check(one[time.Time](c, s, "SELECT $1::timestamptz", moment).Equal(moment), "the moment came back as another")
		c.Check(one[time.Time](c, s, "SELECT $1::timestamp", moment).Equal(moment), "the moment came back as another")
		proof.Equal(c, one[sql.NullString](c, s, "SELECT NULL::text").Valid, false)
		proof.Equal(c, one[sql.Null[int]](c, s, "SELECT 5"), sql.Null[int]{V: 5, Valid: true})
		proof.Equal(c, one[string](c, s, "SELECT $1::text", "naïve ☃ 'quoted' \\"), "naïve ☃ 'quoted' \\")
		proof.Equal(c, one[string](c, s, "SELECT $1::inet", "10.0.0.1/8"), "10.0.0.1/8")
		proof.Equal(c, one[string](c, s, "SELECT int4range(1, 5)"), "[1,5)")
		proof.Equal(c, one[string](c, s, "SELECT $1::interval", "1 day 02:03:04"), "1 day 02:03:04")
		rows, err := s.QueryContext(c.Context, "SELECT 1::int AS a, 'x'::varchar(9) AS b, 1.5::numeric(8, 2)")
		c.Must(err)
		columns, err := rows.ColumnTypes()
		c.Must(err)
		proof.Equal(c, columns[0].DatabaseTypeName()+columns[1].DatabaseTypeName(), "INT4VARCHAR")
		length, _ := columns[1].Length()
		precision, scale, _ := columns[2].DecimalSize()
		proof.Equal(c, []int64{length, precision, scale}, []int64{9, 8, 2})
		c.Must(rows.Close())
	}
}

func arrays(c *proof.Client) {
	s := open(c, "")
	for range 5 {
		numbers := []int64{1, -2, 3, int64(c.Number)}
		var gotNumbers []int64
		c.Must(s.QueryRowContext(c.Context, "SELECT $1::int[]", pq.Array(numbers)).Scan(pq.Array(&gotNumbers)))
		proof.Equal(c, gotNumbers, numbers)
		words := []string{"a,b", `"quoted"`, "{brace}", "", "NULL", `back\slash`}
		var gotWords []string
		c.Must(s.QueryRowContext(c.Context, "SELECT $1::text[]", pq.Array(words)).Scan(pq.Array(&gotWords)))
		proof.Equal(c, gotWords, words)
		proof.Equal(c, one[pq.ByteaArray](c, s, "SELECT $1::bytea[]", pq.ByteaArray{{0, 1}, {255}}), pq.ByteaArray{{0, 1}, {255}})
		proof.Equal(c, one[int](c, s, "SELECT count(*) FROM generate_series(1, 9) n WHERE n = ANY($1)", pq.Array([]int64{2, 4, 11})), 2)
	}
}

func jsons(c *proof.Client) {
	type document struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	s := open(c, "")
	table := c.Name("documents")
	s.do("CREATE TABLE " + table + " (id int, d jsonb)")
	for i := range 10 {
		made := document{fmt.Sprintf("document %d of %d", i, c.Number), []string{"a", "b'c"}}
		text, err := json.Marshal(made)
		c.Must(err)
		s.do("INSERT INTO "+table+" VALUES ($1, $2)", i, text)
		var got document
		c.Must(json.Unmarshal(one[[]byte](c, s, "SELECT d FROM "+table+" WHERE id = $1", i), &got))
		proof.Equal(c, got, made)
	}
	proof.Equal(c, one[int](c, s, "SELECT count(*) FROM "+table+" WHERE d @> $1", `{"tags": ["a"]}`), 10)
	s.do("DROP TABLE " + table)
}

func largeValues(c *proof.Client) {
	s := open(c, "")
	blob := bytes.Repeat([]byte{0, 1, 2, byte(c.Number), 254, 255}, 200_000)
	text := strings.Repeat(fmt.Sprintf("long text of client %d · ", c.Number), 40_000)
	for range 2 {
		got := one[[]byte](c, s, "SELECT $1::bytea", blob)
		c.Check(bytes.Equal(got, blob), "got %d other bytes", len(got))
		c.Check(one[string](c, s, "SELECT $1::text", text) == text, "got another text")
		proof.Equal(c, len(one[string](c, s, "SELECT repeat('x', 3000000)")), 3_000_000)
	}
}

func manyRows(c *proof.Client) {
	s := open(c, "")
	for range 3 {
		rows, err := s.QueryContext(c.Context, "SELECT n, 'row ' || n FROM generate_series(1, $1::int) n", 10_000)
		c.Must(err)
		var number, seen, sum int
		var text string
		for rows.Next() {
			c.Must(rows.Scan(&number, &text))
			seen++
			sum += number
		}
		c.Must(rows.Err())
		proof.Equal(c, seen, 10_000)
		proof.Equal(c, sum, 50_005_000)
		proof.Equal(c, text, "row 10000")
		// Closed before its end.
		rows, err = s.QueryContext(c.Context, "SELECT generate_series(1, 5000)")
		c.Must(err)
		c.Check(rows.Next(), "no row")
		c.Must(rows.Close())
		proof.Equal(c, one[int](c, s, "SELECT 5"), 5)
	}
}

func severalStatements(c *proof.Client) {
	s := open(c, "")
	table := c.Name("several")
	for range 5 {
		rows, err := s.QueryContext(c.Context, "SELECT 1; SELECT 'two'; SELECT generate_series(1, 3)")
		c.Must(err)
		for set, want := range [][]string{{"1"}, {"two"}, {"1", "2", "3"}} {
			var got []string
			for rows.Next() {
				var value string
				c.Must(rows.Scan(&value))
				got = append(got, value)
			}
			proof.Equal(c, got, want)
			proof.Equal(c, rows.NextResultSet(), set < 2)
		}
		c.Must(rows.Err())
		c.Must(rows.Close())
		refused(c, s, "22012", "CREATE TABLE "+table+" (a int); INSERT INTO "+table+" VALUES (1); SELECT 1 / 0")
		// All of them were one transaction.
		proof.Equal(c, one[bool](c, s, "SELECT to_regclass($1) IS NULL", table), true)
		s.do("BEGIN; SELECT 1; COMMIT; SELECT 2")
		s.plain()
	}
}

func copyIn(c *proof.Client) {
	s := open(c, "")
	table := c.Name("copied")
	s.do("CREATE TABLE " + table + " (id int PRIMARY KEY, t text, n float8)")
	for _, statement := range []string{pq.CopyIn(table, "id", "t", "n"), "COPY " + table + " (id, t, n) FROM STDIN"} {
		tx := s.begin(nil)
		copying, err := tx.PrepareContext(c.Context, statement)
		c.Must(err)
		for i := range 5000 {
			_, err := copying.ExecContext(c.Context, i, fmt.Sprintf("copied\t%d \\ it's", i), float64(i)/2)
			c.Must(err)
		}
		result, err := copying.ExecContext(c.Context)
		c.Must(err)
		count, err := result.RowsAffected()
		c.Must(err)
		proof.Equal(c, count, 5000)
		c.Must(copying.Close())
		proof.Equal(c, one[int](c, tx, "SELECT sum(id) FROM "+table), 12_497_500)
		c.Must(tx.Commit())
		proof.Equal(c, one[string](c, s, "SELECT t FROM "+table+" WHERE id = $1", 77), "copied\t77 \\ it's")
		proof.Equal(c, s.do("DELETE FROM "+table), 5000)
	}
	s.do("DROP TABLE " + table)
}

func copyInErrors(c *proof.Client) {
	s := open(c, "")
	table := c.Name("wrong")
	s.do("CREATE TABLE " + table + " (id int PRIMARY KEY)")
	s.do("INSERT INTO " + table + " VALUES (1)")
	for range 3 {
		tx := s.begin(nil)
		copying, err := tx.PrepareContext(c.Context, "COPY "+table+" (id) FROM STDIN")
		c.Must(err)
		for _, id := range []int{7, 8, 1} {
			_, err = copying.ExecContext(c.Context, id)
			c.Must(err)
		}
		_, err = copying.ExecContext(c.Context)
		fails(c, err, "23505")
		copying.Close()
		c.Must(tx.Rollback())
		tx = s.begin(nil)
		_, err = tx.PrepareContext(c.Context, "COPY nowhere_at_all FROM STDIN")
		fails(c, err, "42P01")
		c.Must(tx.Rollback())
		// Given up without its end.
		tx = s.begin(nil)
		copying, err = tx.PrepareContext(c.Context, "COPY "+table+" (id) FROM STDIN")
		c.Must(err)
		_, err = copying.ExecContext(c.Context, 9)
		c.Must(err)
		c.Must(copying.Close())
		c.Must(tx.Rollback())
		proof.Equal(c, one[int](c, s, "SELECT count(*) FROM "+table), 1)
	}
	s.do("DROP TABLE " + table)
}
