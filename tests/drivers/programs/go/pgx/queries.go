package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"programs/proof"
)

func connects(c *proof.Client) {
	for range 5 {
		conn, err := pgx.Connect(c.Context, "")
		c.Must(err)
		proof.Equal(c, one[int](c, conn, "SELECT 40 + $1::int", 2), 42)
		proof.Equal(c, conn.PgConn().ParameterStatus("client_encoding"), "UTF8")
		c.Must(conn.Close(c.Context))
		c.Check(conn.IsClosed(), "the connection is open after Close")
	}
}

func pools(c *proof.Client) {
	config, err := pgxpool.ParseConfig("pool_max_conns=3 pool_min_conns=1")
	c.Must(err)
	pool, err := pgxpool.NewWithConfig(c.Context, config)
	c.Must(err)
	c.Finally(pool.Close)
	c.Must(pool.Ping(c.Context))

	answers := make(chan int)
	for i := range 12 {
		go func() {
			var got int
			if err := pool.QueryRow(c.Context, "SELECT $1::int * 2", i).Scan(&got); err != nil {
				got = -1
			}
			answers <- got - 2*i
		}()
	}
	for range 12 {
		proof.Equal(c, <-answers, 0)
	}
	c.Check(pool.Stat().MaxConns() == 3 && pool.Stat().TotalConns() <= 3, "there are %d connections", pool.Stat().TotalConns())

	table := c.Name("pooled")
	_, err = pool.Exec(c.Context, "CREATE TABLE "+table+" (a int)")
	c.Must(err)
	c.Must(pgx.BeginFunc(c.Context, pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(c.Context, "INSERT INTO "+table+" SELECT generate_series(1, 10)")
		return err
	}))
	c.Must(pool.AcquireFunc(c.Context, func(conn *pgxpool.Conn) error {
		proof.Equal(c, one[int](c, conn, "SELECT sum(a)::int FROM "+table), 55)
		return nil
	}))
	pool.Reset()
	proof.Equal(c, one[int](c, pool, "SELECT count(*)::int FROM "+table), 10)
	_, err = pool.Exec(c.Context, "DROP TABLE "+table)
	c.Must(err)
}

// inMode runs queries with parameters the way one of the driver's modes sends them.
func inMode(mode pgx.QueryExecMode) func(*proof.Client) {
	return func(c *proof.Client) {
		s := open(c, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		table := c.Name("mode")
		s.do("CREATE TABLE " + table + " (id int PRIMARY KEY, t text, b bytea, at timestamptz, f float8, ok bool)")
		at := time.Date(2024, 2, 29, 12, 30, 0, 123456000, time.UTC)
		for i := range 20 {
			text := fmt.Sprintf("it's \\ row %d of client %d ÄÖ€", i, c.Number)
			tag := s.do("INSERT INTO "+table+" VALUES ($1, $2, $3, $4, $5, $6)", i, text, []byte{0, byte(i), 255}, at, 1.5, i%2 == 0)
			proof.Equal(c, tag, "INSERT 0 1")
			var gotText string
			var gotBytes []byte
			var gotAt time.Time
			var gotFloat float64
			var gotBool bool
			c.Must(s.QueryRow(c.Context, "SELECT t, b, at, f, ok FROM "+table+" WHERE id = $1", i).
				Scan(&gotText, &gotBytes, &gotAt, &gotFloat, &gotBool))
			proof.Equal(c, gotText, text)
			proof.Equal(c, gotBytes, []byte{0, byte(i), 255})
			c.Check(gotAt.Equal(at), "got %v", gotAt)
			proof.Equal(c, gotFloat, 1.5)
			proof.Equal(c, gotBool, i%2 == 0)
		}
		proof.Equal(c, one[int64](c, s, "SELECT count(*) FROM "+table+" WHERE ok = $1", true), 10)
		proof.Equal(c, s.do("UPDATE "+table+" SET t = $1 WHERE id < $2", nil, 5), "UPDATE 5")
		proof.Equal(c, one[int64](c, s, "SELECT count(*) FROM "+table+" WHERE t IS NULL"), 5)
		_, err := s.Exec(c.Context, "INSERT INTO "+table+" (id) VALUES ($1)", 1)
		fails(c, err, "23505")
		_, err = s.Exec(c.Context, "SELECT 1 / ($1::int - 1)", 1)
		fails(c, err, "22012")

		named := pgx.NamedArgs{"low": 3, "high": 7}
		proof.Equal(c, all[int](c, s, "SELECT id FROM "+table+" WHERE id BETWEEN @low AND @high ORDER BY 1", named), []int{3, 4, 5, 6, 7})

		tx := s.begin(pgx.TxOptions{})
		for i := range 5 {
			proof.Equal(c, one[int](c, tx, "SELECT $1::int", i), i)
		}
		_, err = tx.Exec(c.Context, "DELETE FROM "+table+" WHERE id > $1", 9)
		c.Must(err)
		c.Must(tx.Commit(c.Context))
		proof.Equal(c, len(all[int](c, s, "SELECT id FROM "+table)), 10)
		s.do("DROP TABLE " + table)
	}
}

// preparedNames uses the same names for other statements than the other clients.
func preparedNames(c *proof.Client) {
	s := open(c)
	for round := range 5 {
		text := fmt.Sprintf("SELECT $1::int + %d", 100*c.Number+round)
		described, err := s.Prepare(c.Context, "plus", text)
		c.Must(err)
		proof.Equal(c, len(described.ParamOIDs), 1)
		again, err := s.Prepare(c.Context, "plus", text)
		c.Must(err)
		proof.Equal(c, again.SQL, text)
		_, err = s.Prepare(c.Context, "named", fmt.Sprintf("SELECT 'client %d', $1::text, %d AS a", c.Number, round))
		c.Must(err)
		for i := range 10 {
			proof.Equal(c, one[int](c, s, "plus", i), 100*c.Number+round+i)
			var who, text string
			var number int
			c.Must(s.QueryRow(c.Context, "named", "x").Scan(&who, &text, &number))
			proof.Equal(c, who, fmt.Sprintf("client %d", c.Number))
			proof.Equal(c, number, round)
		}
		c.Must(s.Deallocate(c.Context, "plus"))
		_, err = s.Exec(c.Context, "plus", 1)
		fails(c, err, "42601")
		c.Must(s.DeallocateAll(c.Context))
	}
	_, err := s.Prepare(c.Context, "broken", "SELECT nothing FROM nowhere")
	fails(c, err, "42P01")

	// By the protocol below: a name that exists cannot be used again.
	low := s.PgConn()
	_, err = low.Prepare(c.Context, "low", "SELECT 1", nil)
	c.Must(err)
	_, err = low.Prepare(c.Context, "low", "SELECT 2", nil)
	fails(c, err, "42P05")
	result := low.ExecPrepared(c.Context, "low", nil, nil, nil).Read()
	c.Must(result.Err)
	proof.Equal(c, string(result.Rows[0][0]), "1")
	c.Must(low.Deallocate(c.Context, "low"))
	fails(c, low.ExecPrepared(c.Context, "low", nil, nil, nil).Read().Err, "26000")
}

// smallCache makes the driver close statements all the time.
func smallCache(c *proof.Client) {
	s := open(c, func(config *pgx.ConnConfig) { config.StatementCacheCapacity = 3 })
	for round := range 3 {
		for i := range 12 {
			proof.Equal(c, one[int](c, s, fmt.Sprintf("SELECT $1::int + %d", i), round), round+i)
		}
	}
}

// changedTable alters a table under statements that were prepared for it.
func changedTable(c *proof.Client) {
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe} {
		s := open(c, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		table := c.Name("changed")
		s.do("CREATE TABLE " + table + " (a int)")
		s.do("INSERT INTO " + table + " VALUES (1)")
		row := func() ([]any, error) {
			rows, err := s.Query(c.Context, "SELECT * FROM "+table)
			c.Must(err)
			return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) ([]any, error) { return row.Values() })
		}
		for range 5 {
			values, err := row()
			c.Must(err)
			proof.Equal(c, values, []any{int32(1)})
		}
		s.do("ALTER TABLE " + table + " ADD b text DEFAULT 'new'")
		// The driver forgets the statement when the server says that it no longer fits.
		values, err := row()
		var unfit *pgconn.PgError
		for tries := 0; errors.As(err, &unfit) && unfit.Code == "0A000" && tries < 3; tries++ {
			values, err = row()
		}
		c.Must(err)
		proof.Equal(c, values, []any{int32(1), "new"})
		s.do("DROP TABLE " + table)
	}
}

func types(c *proof.Client) {
	s := open(c)
	for range 5 {
		proof.Equal(c, one[int64](c, s, "SELECT $1::bigint", int64(math.MaxInt64)), int64(math.MaxInt64))
		proof.Equal(c, one[int16](c, s, "SELECT $1::smallint", int16(-7)), int16(-7))
		proof.Equal(c, one[float32](c, s, "SELECT $1::real", float32(0.25)), float32(0.25))
		c.Check(math.IsNaN(one[float64](c, s, "SELECT $1::float8", math.NaN())), "NaN came back as something else")
		proof.Equal(c, one[string](c, s, "SELECT $1::numeric::text", "12345678901234567890.123456789"), "12345678901234567890.123456789")
		number := one[pgtype.Numeric](c, s, "SELECT 1.50::numeric")
		proof.Equal(c, number.Exp, int32(-2))
		proof.Equal(c, one[netip.Prefix](c, s, "SELECT $1::cidr", netip.MustParsePrefix("10.1.0.0/16")), netip.MustParsePrefix("10.1.0.0/16"))
		proof.Equal(c, one[[16]byte](c, s, "SELECT $1::uuid", [16]byte{15: 9}), [16]byte{15: 9})
		proof.Equal(c, one[time.Duration](c, s, "SELECT $1::interval", 90*time.Minute), 90*time.Minute)
		day := time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)
		proof.Equal(c, one[time.Time](c, s, "SELECT $1::date", day), day)
		moment := time.Date(2001, 2, 3, 4, 5, 6, 7000, time.UTC)
		proof.Equal(c, one[time.Time](c, s, "SELECT $1::timestamp", moment), moment)
		c.Check(one[time.Time](c, s, "SELECT $1::timestamptz", moment).Equal(moment), "the moment came back as another")
		infinite := one[pgtype.Timestamptz](c, s, "SELECT 'infinity'::timestamptz")
		proof.Equal(c, infinite.InfinityModifier, pgtype.Infinity)
		span := one[pgtype.Range[pgtype.Int4]](c, s, "SELECT int4range(1, 5)")
		proof.Equal(c, span.Upper.Int32, 5)
		proof.Equal(c, one[*string](c, s, "SELECT NULL::text"), nil)
		proof.Equal(c, one[string](c, s, "SELECT $1::text", "naïve ☃ 'quoted' \\"), "naïve ☃ 'quoted' \\")
		proof.Equal(c, one[pgtype.Bits](c, s, "SELECT B'101'").Len, 3)
		proof.Equal(c, one[pgtype.Point](c, s, "SELECT point(1, 2)").P.Y, 2)
	}
}

func arrays(c *proof.Client) {
	s := open(c)
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeSimpleProtocol} {
		for range 3 {
			numbers := []int32{1, -2, 3, int32(c.Number)}
			proof.Equal(c, one[[]int32](c, s, "SELECT $1::int[]", mode, numbers), numbers)
			words := []string{"a,b", `"quoted"`, "{brace}", "", "NULL", `back\slash`}
			proof.Equal(c, one[[]string](c, s, "SELECT $1::text[]", mode, words), words)
			proof.Equal(c, one[[]int32](c, s, "SELECT $1::int[]", mode, []int32{}), []int32{})
			proof.Equal(c, one[[][]int32](c, s, "SELECT '{{1,2},{3,4}}'::int[]", mode), [][]int32{{1, 2}, {3, 4}})
			proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM generate_series(1, 9) n WHERE n = ANY($1)", mode, []int32{2, 4, 11}), 2)
			holes := one[[]*string](c, s, "SELECT ARRAY['a', NULL]", mode)
			c.Check(len(holes) == 2 && *holes[0] == "a" && holes[1] == nil, "got %v", holes)
		}
	}
}

func jsons(c *proof.Client) {
	type document struct {
		Name string            `json:"name"`
		Tags []string          `json:"tags"`
		More map[string]string `json:"more"`
	}
	s := open(c)
	table := c.Name("documents")
	s.do("CREATE TABLE " + table + " (id int, d jsonb, j json)")
	for i := range 10 {
		made := document{fmt.Sprintf("document %d", i), []string{"a", "b'c"}, map[string]string{"client": fmt.Sprint(c.Number)}}
		s.do("INSERT INTO "+table+" VALUES ($1, $2, $3)", i, made, made)
		proof.Equal(c, one[document](c, s, "SELECT d FROM "+table+" WHERE id = $1", i), made)
		proof.Equal(c, one[document](c, s, "SELECT j FROM "+table+" WHERE id = $1", i), made)
	}
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table+" WHERE d @> $1", map[string]any{"tags": []string{"a"}}), 10)
	proof.Equal(c, one[string](c, s, "SELECT d #>> '{more,client}' FROM "+table+" WHERE id = 3"), fmt.Sprint(c.Number))
	s.do("DROP TABLE " + table)
}

// ownTypes asks the catalogue for an enum and a composite type and uses them in binary form.
func ownTypes(c *proof.Client) {
	s := open(c)
	mood, pair := c.Name("mood"), c.Name("pair")
	s.do("CREATE TYPE " + mood + " AS ENUM ('sad', 'glad')")
	s.do("CREATE TYPE " + pair + " AS (number int, word text)")
	for _, name := range []string{mood, mood + "[]", pair, pair + "[]"} {
		loaded, err := s.LoadType(c.Context, name)
		c.Must(err)
		s.TypeMap().RegisterType(loaded)
	}
	type couple struct {
		Number int32
		Word   string
	}
	for i := range 5 {
		proof.Equal(c, one[string](c, s, "SELECT $1::"+mood, "glad"), "glad")
		proof.Equal(c, one[[]string](c, s, "SELECT enum_range(NULL::"+mood+")"), []string{"sad", "glad"})
		want := couple{int32(i), "wörd"}
		proof.Equal(c, one[couple](c, s, "SELECT $1::"+pair, want), want)
		proof.Equal(c, one[[]couple](c, s, "SELECT ARRAY[$1::"+pair+"]", want), []couple{want})
	}
	s.do("DROP TYPE " + mood)
	s.do("DROP TYPE " + pair)
}

func largeValues(c *proof.Client) {
	s := open(c)
	blob := bytes.Repeat([]byte{0, 1, 2, byte(c.Number), 254, 255}, 300_000)
	text := strings.Repeat(fmt.Sprintf("long text of client %d · ", c.Number), 40_000)
	for range 2 {
		got := one[[]byte](c, s, "SELECT $1::bytea", blob)
		c.Check(bytes.Equal(got, blob), "got %d other bytes", len(got))
		c.Check(one[string](c, s, "SELECT $1::text", text) == text, "got another text")
		got = one[[]byte](c, s, "SELECT $1::bytea", pgx.QueryExecModeSimpleProtocol, blob)
		c.Check(bytes.Equal(got, blob), "got %d other bytes", len(got))
		proof.Equal(c, one[int](c, s, "SELECT length($1::text)", text), len([]rune(text)))
		proof.Equal(c, len(one[string](c, s, "SELECT repeat('x', 3000000)")), 3_000_000)
	}
}

func manyRows(c *proof.Client) {
	s := open(c)
	for range 3 {
		rows, err := s.Query(c.Context, "SELECT n, 'row ' || n FROM generate_series(1, $1::int) n", 10_000)
		c.Must(err)
		var number, seen, sum int
		var text string
		tag, err := pgx.ForEachRow(rows, []any{&number, &text}, func() error {
			seen++
			sum += number
			return nil
		})
		c.Must(err)
		proof.Equal(c, tag.RowsAffected(), 10_000)
		proof.Equal(c, seen, 10_000)
		proof.Equal(c, sum, 50_005_000)
		proof.Equal(c, text, "row 10000")
		// Closed before its end.
		rows, err = s.Query(c.Context, "SELECT generate_series(1, 5000)")
		c.Must(err)
		c.Check(rows.Next(), "no row")
		rows.Close()
		proof.Equal(c, one[int](c, s, "SELECT 5"), 5)
	}
}

func severalStatements(c *proof.Client) {
	s := open(c)
	for range 5 {
		results, err := s.PgConn().Exec(c.Context, "SELECT 1; SELECT 'two', NULL; SELECT generate_series(1, 3)").ReadAll()
		c.Must(err)
		proof.Equal(c, len(results), 3)
		proof.Equal(c, string(results[1].Rows[0][0]), "two")
		c.Check(results[1].Rows[0][1] == nil, "NULL came as something else")
		proof.Equal(c, len(results[2].Rows), 3)
		table := c.Name("several")
		_, err = s.PgConn().Exec(c.Context, "CREATE TABLE "+table+" (a int); INSERT INTO "+table+" VALUES (1); SELECT 1 / 0").ReadAll()
		fails(c, err, "22012")
		// All of them were one transaction.
		c.Check(one[*string](c, s, "SELECT to_regclass($1)::text", table) == nil, "the table stayed")
		results, err = s.PgConn().Exec(c.Context, "BEGIN; SELECT 1; COMMIT; SELECT 2").ReadAll()
		c.Must(err)
		proof.Equal(c, len(results), 4)
		_, err = s.PgConn().Exec(c.Context, "").ReadAll()
		c.Must(err)
		proof.Equal(c, s.PgConn().TxStatus(), byte('I'))
	}
	c.Must(s.Ping(context.Background()))
}
