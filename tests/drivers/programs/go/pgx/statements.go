package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"programs/proof"
)

var extendedModes = []pgx.QueryExecMode{
	pgx.QueryExecModeCacheStatement,
	pgx.QueryExecModeCacheDescribe,
	pgx.QueryExecModeDescribeExec,
	pgx.QueryExecModeExec,
}

func batches(c *proof.Client) {
	for _, mode := range append(extendedModes, pgx.QueryExecModeSimpleProtocol) {
		s := open(c, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		table := c.Name("batched")
		s.do("CREATE TABLE " + table + " (id int PRIMARY KEY, t text)")
		for round := range 2 {
			batch := &pgx.Batch{}
			for i := range 25 {
				batch.Queue("INSERT INTO "+table+" VALUES ($1, $2)", 100*round+i, fmt.Sprint("text ", i)).Exec(func(tag pgconn.CommandTag) error {
					proof.Equal(c, tag.RowsAffected(), 1)
					return nil
				})
			}
			batch.Queue("SELECT count(*)::int FROM " + table).QueryRow(func(row pgx.Row) error {
				var count int
				err := row.Scan(&count)
				proof.Equal(c, count, 25*(round+1))
				return err
			})
			batch.Queue("SELECT id FROM "+table+" WHERE id < $1 ORDER BY id", 4).Query(func(rows pgx.Rows) error {
				ids, err := pgx.CollectRows(rows, pgx.RowTo[int])
				proof.Equal(c, ids, []int{0, 1, 2, 3})
				return err
			})
			c.Must(s.SendBatch(c.Context, batch).Close())
		}
		// Read by hand, and not to the end.
		batch := &pgx.Batch{}
		for i := range 6 {
			batch.Queue("SELECT $1::int", i)
		}
		results := s.SendBatch(c.Context, batch)
		for i := range 3 {
			var got int
			c.Must(results.QueryRow().Scan(&got))
			proof.Equal(c, got, i)
		}
		c.Must(results.Close())
		tx := s.begin(pgx.TxOptions{})
		batch = &pgx.Batch{}
		batch.Queue("DELETE FROM " + table)
		batch.Queue("SELECT count(*)::int FROM " + table)
		results = tx.SendBatch(c.Context, batch)
		_, err := results.Exec()
		c.Must(err)
		var count int
		c.Must(results.QueryRow().Scan(&count))
		proof.Equal(c, count, 0)
		c.Must(results.Close())
		c.Must(tx.Rollback(c.Context))
		proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 50)
		s.do("DROP TABLE " + table)
		c.Must(s.Close(c.Context))
	}
}

// batchErrors has a statement in the middle that fails: what came before it is undone, what comes after it is not run.
func batchErrors(c *proof.Client) {
	for _, mode := range extendedModes {
		s := open(c, func(config *pgx.ConnConfig) { config.DefaultQueryExecMode = mode })
		table := c.Name("wrong")
		s.do("CREATE TABLE " + table + " (id int PRIMARY KEY)")
		for range 3 {
			batch := &pgx.Batch{}
			batch.Queue("INSERT INTO "+table+" VALUES ($1)", 1)
			batch.Queue("SELECT 1 / $1::int", 0)
			batch.Queue("INSERT INTO "+table+" VALUES ($1)", 2)
			results := s.SendBatch(c.Context, batch)
			tag, err := results.Exec()
			c.Must(err)
			proof.Equal(c, tag.RowsAffected(), 1)
			_, err = results.Exec()
			fails(c, err, "22012")
			_, err = results.Exec()
			c.Check(err != nil, "a statement after the one that failed was run")
			fails(c, results.Close(), "22012")
			proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 0)

			// An error that shows while the statement is prepared.
			batch = &pgx.Batch{}
			batch.Queue("INSERT INTO "+table+" VALUES ($1)", 1)
			batch.Queue("SELECT * FROM nowhere_at_all")
			fails(c, s.SendBatch(c.Context, batch).Close(), "42P01")
			proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 0)

			// Within a transaction it is the transaction that fails.
			tx := s.begin(pgx.TxOptions{})
			batch = &pgx.Batch{}
			batch.Queue("INSERT INTO "+table+" VALUES ($1)", 3)
			batch.Queue("INSERT INTO "+table+" VALUES ($1)", 3)
			fails(c, tx.SendBatch(c.Context, batch).Close(), "23505")
			_, err = tx.Exec(c.Context, "SELECT 1")
			fails(c, err, "25P02")
			c.Must(tx.Rollback(c.Context))
			s.plain()
		}
		s.do("DROP TABLE " + table)
		c.Must(s.Close(c.Context))
	}
}

// pipelines works below the batches: prepare, run and look at results between syncs of one's own choice.
func pipelines(c *proof.Client) {
	s := open(c)
	for round := range 5 {
		pipeline := s.PgConn().StartPipeline(c.Context)
		pipeline.SendPrepare("piped", fmt.Sprintf("SELECT $1::int + %d", 10*c.Number), nil)
		pipeline.SendPrepare("other", "SELECT 'other'", nil)
		c.Must(pipeline.Sync())
		described := func() *pgconn.StatementDescription {
			result, err := pipeline.GetResults()
			c.Must(err)
			statement, fits := result.(*pgconn.StatementDescription)
			c.Check(fits, "got a %T", result)
			return statement
		}
		proof.Equal(c, len(described().ParamOIDs), 1)
		proof.Equal(c, string(described().Fields[0].Name), "?column?")
		synced := func() {
			result, err := pipeline.GetResults()
			c.Must(err)
			_, fits := result.(*pgconn.PipelineSync)
			c.Check(fits, "got a %T", result)
		}
		synced()
		value := func() (string, error) {
			result, err := pipeline.GetResults()
			if err != nil {
				return "", err
			}
			reader, fits := result.(*pgconn.ResultReader)
			c.Check(fits, "got a %T", result)
			read := reader.Read()
			if read.Err != nil {
				return "", read.Err
			}
			return string(read.Rows[0][0]), nil
		}
		number := func(i int) [][]byte { return [][]byte{[]byte(fmt.Sprint(i))} }
		for i := range 10 {
			pipeline.SendQueryPrepared("piped", number(i), nil, nil)
			pipeline.SendQueryPrepared("other", nil, nil, nil)
		}
		c.Must(pipeline.Sync())
		pipeline.SendQueryParams("SELECT 1 / $1::int", number(0), nil, nil, nil)
		pipeline.SendQueryPrepared("piped", number(1), nil, nil)
		c.Must(pipeline.Sync())
		pipeline.SendQueryParams("SELECT $1::text", number(round), nil, nil, nil)
		pipeline.SendDeallocate("other")
		c.Must(pipeline.Sync())
		for i := range 10 {
			got, err := value()
			c.Must(err)
			proof.Equal(c, got, fmt.Sprint(10*c.Number+i))
			got, err = value()
			c.Must(err)
			proof.Equal(c, got, "other")
		}
		synced()
		_, err := value()
		fails(c, err, "22012")
		synced()
		got, err := value()
		c.Must(err)
		proof.Equal(c, got, fmt.Sprint(round))
		result, err := pipeline.GetResults()
		c.Must(err)
		_, fits := result.(*pgconn.CloseComplete)
		c.Check(fits, "got a %T", result)
		synced()

		// Answers to a Flush come before the next Sync.
		pipeline.SendQueryParams("SELECT 'flushed'", nil, nil, nil, nil)
		pipeline.SendFlushRequest()
		c.Must(pipeline.Flush())
		got, err = value()
		c.Must(err)
		proof.Equal(c, got, "flushed")
		c.Must(pipeline.Sync())
		synced()
		c.Must(pipeline.Close())
		c.Must(s.PgConn().Deallocate(c.Context, "piped"))
	}
}

func copyFrom(c *proof.Client) {
	s := open(c)
	table := c.Name("copied")
	s.do("CREATE TABLE " + table + " (id int PRIMARY KEY, t text, n float8)")
	columns := []string{"id", "t", "n"}
	count, err := s.CopyFrom(c.Context, pgx.Identifier{table}, columns, pgx.CopyFromSlice(5000, func(i int) ([]any, error) {
		return []any{i, fmt.Sprint("copied ", i), float64(i) / 2}, nil
	}))
	c.Must(err)
	proof.Equal(c, count, 5000)
	proof.Equal(c, one[int64](c, s, "SELECT sum(id) FROM "+table), 12_497_500)
	proof.Equal(c, one[string](c, s, "SELECT t FROM "+table+" WHERE id = $1", 77), "copied 77")

	// A row that is there already, and a source that breaks.
	_, err = s.CopyFrom(c.Context, pgx.Identifier{table}, columns, pgx.CopyFromRows([][]any{{6000, "new", 0.0}, {1, "old", 0.0}}))
	fails(c, err, "23505")
	broken := errors.New("the source broke")
	_, err = s.CopyFrom(c.Context, pgx.Identifier{table}, columns, pgx.CopyFromSlice(9, func(i int) ([]any, error) {
		if i == 5 {
			return nil, broken
		}
		return []any{7000 + i, "half", 0.0}, nil
	}))
	c.Check(err != nil, "a broken source was not noticed")
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 5000)

	tx := s.begin(pgx.TxOptions{})
	count, err = tx.CopyFrom(c.Context, pgx.Identifier{table}, columns, pgx.CopyFromRows([][]any{{8000, "undone", nil}, {8001, nil, 1.0}}))
	c.Must(err)
	proof.Equal(c, count, 2)
	proof.Equal(c, one[int](c, tx, "SELECT count(*)::int FROM "+table), 5002)
	c.Must(tx.Rollback(c.Context))
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 5000)
	s.do("DROP TABLE " + table)
}

func copyRaw(c *proof.Client) {
	s := open(c)
	table := c.Name("raw")
	s.do("CREATE TABLE " + table + " (id int, t text)")
	var lines strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&lines, "%d,\"text, %d\"\n", i, c.Number)
	}
	tag, err := s.PgConn().CopyFrom(c.Context, strings.NewReader(lines.String()), "COPY "+table+" FROM STDIN (FORMAT csv)")
	c.Must(err)
	proof.Equal(c, tag.RowsAffected(), 20_000)
	var out bytes.Buffer
	tag, err = s.PgConn().CopyTo(c.Context, &out, "COPY (SELECT * FROM "+table+" ORDER BY id) TO STDOUT (FORMAT csv)")
	c.Must(err)
	proof.Equal(c, tag.RowsAffected(), 20_000)
	c.Check(out.String() == lines.String(), "got %d characters instead of %d", out.Len(), lines.Len())
	_, err = s.PgConn().CopyFrom(c.Context, strings.NewReader("not a number,x\n"), "COPY "+table+" FROM STDIN (FORMAT csv)")
	fails(c, err, "22P02")
	_, err = s.PgConn().CopyFrom(c.Context, strings.NewReader("1,x\n"), "COPY nowhere_at_all FROM STDIN")
	fails(c, err, "42P01")
	_, err = s.PgConn().CopyTo(c.Context, &out, "COPY (SELECT 1 / (n - 500) FROM generate_series(1, 1000) n) TO STDOUT")
	fails(c, err, "22012")
	proof.Equal(c, one[int](c, s, "SELECT count(*)::int FROM "+table), 20_000)
	s.do("DROP TABLE " + table)
}
