// Package proof runs the features of a program with many clients at once and reports them as the tests read it.
package proof

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// patience is how long all clients together may take for one feature.
	patience = 20 * time.Second
	// grace is how long they may take to notice that patience has run out.
	grace = 3 * time.Second
)

// Feature is one thing a driver can do; Run does it with the connections of one client.
type Feature struct {
	Name string
	Run  func(c *Client)
}

// Client is one of those that run a feature at the same time.
type Client struct {
	// Context ends when the feature took too long, or when another client failed.
	Context context.Context
	Number  int
	// Clients is how many there are.
	Clients int

	checks  int
	gate    chan struct{}
	endings []func()
}

type failure struct{ why string }

// Prefix begins the names of everything made in the database.
func Prefix() string { return os.Getenv("PREFIX") }

// Name is what this client alone calls a table and the like.
func (c *Client) Name(what string) string { return fmt.Sprintf("%s%s_%d", Prefix(), what, c.Number) }

// Finally has something done when the client is through, failed or not; the last one comes first.
func (c *Client) Finally(do func()) { c.endings = append(c.endings, do) }

// Check counts a fact that holds, and ends the feature over one that doesn't.
func (c *Client) Check(holds bool, format string, values ...any) {
	if !holds {
		fail(format, values...)
	}
	c.checks++
}

// Must ends the feature over an error.
func (c *Client) Must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

// Equal checks that two values are the same.
func Equal[T any](c *Client, got, want T) {
	c.Check(reflect.DeepEqual(got, want), "got %s instead of %s", shortened(got), shortened(want))
}

// Until checks that something comes true while the feature lasts.
func (c *Client) Until(holds func() bool, format string, values ...any) {
	for !holds() {
		if c.Context.Err() != nil {
			fail("never: "+format, values...)
		}
		time.Sleep(2 * time.Millisecond)
	}
	c.checks++
}

// Alone does what only one client may do at a time; until its turn comes, each goes on with something plain.
func (c *Client) Alone(plain, alone func()) {
	for turn := false; !turn; {
		plain()
		select {
		case c.gate <- struct{}{}:
			turn = true
		case <-time.After(time.Millisecond):
			c.Must(c.Context.Err())
		}
	}
	defer func() { <-c.gate }()
	alone()
}

func fail(format string, values ...any) {
	where := "?"
	for depth := 1; ; depth++ {
		_, file, line, known := runtime.Caller(depth)
		if !known {
			break
		}
		if !strings.HasSuffix(file, "/proof/proof.go") {
			parts := strings.Split(file, "/")
			where = fmt.Sprintf("%s:%d", parts[len(parts)-1], line)
			break
		}
	}
	panic(failure{fmt.Sprintf(format, values...) + " at " + where})
}

func shortened(value any) string {
	text := fmt.Sprintf("%#v", value)
	if len(text) > 200 {
		text = fmt.Sprintf("%s… (%d characters)", text[:200], len(text))
	}
	return text
}

// run is one client's part; why it failed is told before anything is put in order.
func (c *Client) run(feature Feature, failed func(why string)) {
	defer func() {
		if found := recover(); found != nil {
			known, ours := found.(failure)
			if !ours {
				stack := make([]byte, 4096)
				fmt.Fprintf(os.Stderr, "%v\n%s\n", found, stack[:runtime.Stack(stack, false)])
				known.why = fmt.Sprintf("panic: %v", found)
			}
			failed(fmt.Sprintf("client %d: %s", c.Number, known.why))
		}
		for _, ending := range slices.Backward(c.endings) {
			ending()
		}
	}()
	feature.Run(c)
}

func prove(feature Feature, clients int) (checks int, reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	gate := make(chan struct{}, 1)
	var mutex sync.Mutex
	var everybody sync.WaitGroup
	for number := range clients {
		everybody.Go(func() {
			client := &Client{Context: ctx, Number: number, Clients: clients, gate: gate}
			client.run(feature, func(why string) {
				mutex.Lock()
				defer mutex.Unlock()
				if reason == "" {
					reason = why
				}
				cancel()
			})
			mutex.Lock()
			defer mutex.Unlock()
			checks += client.checks
		})
	}
	over := make(chan struct{})
	go func() {
		everybody.Wait()
		close(over)
	}()
	select {
	case <-over:
	case <-time.After(patience + grace):
		return 0, "not all clients came to an end"
	}
	return checks, reason
}

// Run proves the features in order, or only those named on the command line.
func Run(features []Feature) {
	clients, err := strconv.Atoi(os.Getenv("CLIENTS"))
	if err != nil || Prefix() == "" {
		fmt.Fprintln(os.Stderr, "CLIENTS and PREFIX have to be set")
		os.Exit(2)
	}
	for _, feature := range features {
		if wanted := os.Args[1:]; len(wanted) > 0 && !slices.Contains(wanted, feature.Name) {
			continue
		}
		begun := time.Now()
		if checks, why := prove(feature, clients); why == "" {
			fmt.Println("ok", feature.Name, checks)
		} else {
			fmt.Println("not ok", feature.Name, strings.ReplaceAll(why, "\n", " "))
		}
		fmt.Fprintf(os.Stderr, "%s took %v\n", feature.Name, time.Since(begun).Round(time.Millisecond))
	}
	fmt.Println("done")
}

// Tidy is a statement that drops whatever an earlier run left behind.
func Tidy() string {
	return strings.ReplaceAll(`DO $$
DECLARE statement text;
BEGIN
  FOR statement IN
    SELECT format('DROP SCHEMA %I CASCADE', nspname) FROM pg_namespace WHERE starts_with(nspname, 'PREFIX')
    UNION ALL
    SELECT format('DROP TABLE %I CASCADE', tablename) FROM pg_tables
      WHERE schemaname = 'public' AND starts_with(tablename, 'PREFIX')
    UNION ALL
    SELECT format('DROP TYPE %I CASCADE', typname) FROM pg_type
      WHERE typnamespace = 'public'::regnamespace AND starts_with(typname, 'PREFIX')
        AND (typtype = 'e' OR typtype = 'c' AND (SELECT relkind FROM pg_class WHERE oid = typrelid) = 'c')
  LOOP
    EXECUTE statement;
  END LOOP;
END $$`, "PREFIX", Prefix())
}
